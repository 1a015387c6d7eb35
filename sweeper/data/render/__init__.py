"""Conversations as text and tokens: chat templates, answers that carry loss, tokenizers."""
