"""The client against servers that answer as they are told."""
