"""Checkpoints on disk: their names, which one, whether it is whole."""
