"""Masks: from stored values or colors to class indices, and the names and colors of classes."""
