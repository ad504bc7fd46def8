"""Versions after they are built: listed, compared, verified, carried, exported, previewed, and old ones removed."""
