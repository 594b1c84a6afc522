"""A run of any length for `benchmarks/store.py`: made, stored, asked; and its peers on what they can follow."""
