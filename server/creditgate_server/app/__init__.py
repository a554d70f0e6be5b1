"""Where the parts are joined, started, drained and closed."""
