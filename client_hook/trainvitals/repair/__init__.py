"""Finding corrupt running statistics and repairing them in place."""
