"""Rank processes: the group as one engine, the worker in each, their failures, probes of a few steps."""
