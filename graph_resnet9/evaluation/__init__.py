"""What a trained network answers: evaluation and SavedModels."""
