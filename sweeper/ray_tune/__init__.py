"""Ray and Ray Tune: a cluster or a local Ray, its free resources, the searcher and the trainable."""
