"""What a trained network is used for: prediction, evaluation, export."""
