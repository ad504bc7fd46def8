"""Supervised training of tiny-vl, the bundled Qwen2.5-VL of a few million weights."""
