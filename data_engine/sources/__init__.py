"""Sources read rows: the hub's datasets, folders in their layout, benchmark files, and the project's own small sets."""
