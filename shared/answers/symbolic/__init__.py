"""Pairs that only computer algebra can settle: math-verify in worker processes with a hard deadline."""
