"""Checking a dataset before training: findings, settings that repair them, and contact sheets."""
