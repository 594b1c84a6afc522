"""Checkpoints on the disk: how they are written, what may lie in them, how they are judged and read."""
