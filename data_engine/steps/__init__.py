"""Judging steps: each writes one narrow annotation table. Steps never import each other; `assemble` joins them."""
