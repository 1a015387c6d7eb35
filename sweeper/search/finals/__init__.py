"""What trains when the search is over: a proxy's best on the real thing, and the best under other seeds."""
