"""Inference as pure functions: images in, logits and scores out."""
