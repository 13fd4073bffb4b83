"""Records from store to store: planned, read, transformed, written, applied, brought back."""
