"""Switches of the write mode: the gate, the barrier's drain, the steps."""
