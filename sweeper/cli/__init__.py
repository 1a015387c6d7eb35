"""The command line: ``main`` is the console script, ``app`` the commands by themselves."""

from sweeper.cli.app import app, main

__all__ = ["app", "main"]
