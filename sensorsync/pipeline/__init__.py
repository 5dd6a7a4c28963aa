"""The way of a message from a broker to a committed row: pure of vendors and of configuration."""
