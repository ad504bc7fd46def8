"""Which rows come from a benchmark: shared n-grams, exact matches, nearest embeddings; and planted duplicates."""
