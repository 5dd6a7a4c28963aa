"""The path of a message from a broker to a committed row. It depends on no vendor and on no configuration."""
