"""The list of all keys, and what is made from it."""
