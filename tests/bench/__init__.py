"""The benchmark: what it counts, what it does not, and what it says."""
