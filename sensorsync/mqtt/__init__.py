"""Everything that opens connections to a broker."""
