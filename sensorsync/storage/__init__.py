"""The databases that readings are stored in."""
