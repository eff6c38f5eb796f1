"""Sessions: training, evaluation, hooks and checkpoint files."""
