"""The list of all keys, and the sample file that is made from it."""
