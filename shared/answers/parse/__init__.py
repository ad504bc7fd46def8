"""From text to what it says: the answer in an output or a gold, its spelling in one form, its reading as mathematics."""
