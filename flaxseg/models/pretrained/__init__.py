"""Weights files: safetensors, npz and torch as dicts of arrays, and their download."""
