"""Building blocks of a process: back-off, shutdown, children."""
