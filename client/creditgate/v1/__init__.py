"""The contract, generated from `protos/creditgate/v1` by `protos/generate`."""
