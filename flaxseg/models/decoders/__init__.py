"""Decoders, one architecture a file."""
