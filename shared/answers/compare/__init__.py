"""Is what two sides say the same: options, words, numbers, structures; gold first, prediction second."""
