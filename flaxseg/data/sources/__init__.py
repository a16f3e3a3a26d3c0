"""Sources: random access to the examples of a dataset, however they are stored."""
