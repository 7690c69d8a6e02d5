"""What there is to choose from, read from the source without importing it."""
