"""The model that a trial trains."""

import pytest


@pytest.mark.parametrize(("checkpointing", "forward_passes"), [(False, 1), (True, 2)])
def test_gradient_checkpointing_computes_each_layer_a_second_time(
    rank, job_of, quick_config, checkpointing, forward_passes
):
    config = quick_config(gradient_checkpointing=checkpointing, gradient_accumulation_steps=1)
    rank.prepare(job_of(config))
    trainer, calls = rank._running(), []
    layer = trainer._model.model.layers[0]
    layer.self_attn.register_forward_hook(lambda *_: calls.append(1))
    trainer._optimizer_step()
    rank.stop()
    assert len(calls) == forward_passes


def test_dropout_is_on_while_a_model_trains_and_off_while_it_is_evaluated(rank, job_of, quick_config):
    rank.prepare(job_of(quick_config()))
    trainer = rank._running()
    modes = []
    trainer._model.register_forward_hook(lambda module, *_: modes.append(module.training))
    trainer._optimizer_step()
    trained = len(modes)
    trainer._evaluate({})
    trainer._optimizer_step()
    rank.stop()
    assert all(modes[:trained]) and modes[-1]
    assert not any(modes[trained : trained + len(trainer._evaluation.batches)])
