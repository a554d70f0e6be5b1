"""The domain: commands, results, faults, prices, catalogs. Imports neither grpc nor redis."""
