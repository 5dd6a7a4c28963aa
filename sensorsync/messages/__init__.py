"""Conversion of the bytes of a message to readings and rows, and of a payload to the bytes of a message."""
