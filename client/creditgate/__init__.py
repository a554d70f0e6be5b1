"""The creditgate client."""
