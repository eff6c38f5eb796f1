"""From bytes on disk to a batch in the graph."""
