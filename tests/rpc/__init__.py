"""The contract over the wire: what each method promises, and what it makes of mistakes."""
