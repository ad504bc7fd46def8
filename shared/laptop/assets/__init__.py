"""The checkpoint shipped with the project."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "tiny-vl"
"""Folder of tiny-vl: configuration, tokenizer, chat template, safetensors."""
