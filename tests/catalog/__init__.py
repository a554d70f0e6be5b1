"""The catalog: prices, the reader and its problems, the catalogs that are shipped."""
