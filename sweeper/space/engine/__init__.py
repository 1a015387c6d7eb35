"""Somebody else's trainer as the trial: the section ``engine`` of a space file."""
