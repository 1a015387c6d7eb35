"""What a model's folder says without loading its weights."""
