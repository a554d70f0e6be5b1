"""Servers and stores that are killed under load, and what they had acknowledged."""
