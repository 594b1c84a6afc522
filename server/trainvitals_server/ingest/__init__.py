"""The way in: a trainer's session (no I/O), its socket, and the one writer."""
