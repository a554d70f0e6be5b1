"""Catalogs as TOML files: the ones that are shipped, and the reader for them and for any other."""
