"""Random access to the examples of a dataset, wherever they are stored."""
