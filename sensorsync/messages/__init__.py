"""From the bytes of a message to readings and rows, and back."""
