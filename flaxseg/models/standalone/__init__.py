"""Networks whose encoder cannot be exchanged: one function per file."""
