"""The contract's side of the server: messages in, commands to the ledger, messages out."""
