"""The model of a rank: loading, adapters, attention that keeps rows apart, and the check that it does."""
