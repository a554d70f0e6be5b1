"""The store room: the embedded store, the link to it and its check-up."""
