"""What is known of the batch normalisation in a graph, by its edges."""
