"""Figures of a run, drawing, and TensorBoard summaries."""
