"""Answers that a model generates for held-out rows, and the metrics of them."""
