"""Makes the model and the rows of ``sweeper/quickstart``; its commands are given in ``tests/quickstart``."""
