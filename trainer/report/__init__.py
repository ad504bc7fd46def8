"""Reports: Table 1's shape, differences with errors, curves and sampled rollouts, as one page or as terminal text."""
