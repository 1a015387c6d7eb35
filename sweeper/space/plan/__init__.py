"""What a sweep of a space comes to: trials, steps, concurrency, the system's configuration."""
