"""A training on one machine: its graph, session, hooks and directory."""
