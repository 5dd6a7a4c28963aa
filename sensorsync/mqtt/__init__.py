"""Everything that has a socket to a broker."""
