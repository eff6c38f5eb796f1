"""Rules on the layers of a graph, and what they find."""
