"""Networks without an exchangeable encoder."""
