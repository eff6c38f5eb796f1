"""From the command line to settings and back."""
