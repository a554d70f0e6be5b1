"""The engine: bytes between callers and endpoints, and nothing else."""
