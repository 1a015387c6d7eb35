"""What a model could before it was trained: rows to measure what it forgets by."""
