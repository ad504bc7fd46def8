"""Which rows are the same problem: equal words (MinHash, then exact Jaccard), equal numbers, equal pictures."""
