"""Decoders: one file per architecture, and what they share."""
