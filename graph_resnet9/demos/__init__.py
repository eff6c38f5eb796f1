"""The cases, and what runs, measures and shows them."""
