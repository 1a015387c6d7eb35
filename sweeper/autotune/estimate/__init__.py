"""Arithmetic: what a configuration needs of memory, how long a trial takes and what it costs."""
