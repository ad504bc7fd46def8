"""From a source's records to the rows and pictures of a build: hashed, checked, and within reach of every worker."""
