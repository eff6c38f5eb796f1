"""A graph restored, fed and measured."""
