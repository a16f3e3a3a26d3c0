"""The configuration: its keys, configuration files, validation, and help."""
