"""Checkpoints of both stores: taken at one instant, proven, restored beside the live tables, and swapped in."""
