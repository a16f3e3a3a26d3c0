"""The four parts of a run: what each of them holds, and how it is built from a configuration."""
