"""Checkpoints shipped with the project."""
