"""One model on the ranks of a trial, by DeepSpeed: data, tensor and pipeline parallel, the optimizer."""
