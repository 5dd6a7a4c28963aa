"""Where the values of the settings come from."""
