"""A space file as it was written: YAML with the place of each value, ranges, conditions, overrides."""
