"""From text to what it says: the answer in an output or a gold, one spelling of it, its reading as mathematics."""
