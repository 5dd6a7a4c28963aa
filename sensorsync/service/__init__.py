"""What surrounds a running pipeline."""
