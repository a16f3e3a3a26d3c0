"""Configurations: every key, configuration files, and their validation."""
