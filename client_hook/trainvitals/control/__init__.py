"""Commands from the server: a closed set, opted into by the trainer, applied at most once and only at a safe point."""
