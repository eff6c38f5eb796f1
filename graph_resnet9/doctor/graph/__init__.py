"""A GraphDef read as linked nodes; nothing of it runs."""
