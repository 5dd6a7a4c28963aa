"""Publishing through many connections, each with its window."""
