"""What carries bytes between callers and endpoints."""
