"""What creditgate costs: measures a server and its store, and says which goals are met."""
