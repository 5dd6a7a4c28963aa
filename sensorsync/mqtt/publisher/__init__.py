"""Publishing with a window on many connections."""
