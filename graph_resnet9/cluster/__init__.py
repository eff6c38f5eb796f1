"""Parameter servers and workers."""
