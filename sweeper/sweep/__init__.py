"""What a sweep keeps while it runs: recorder, budget, setbacks, lock, folder. Neither Ray nor torch."""
