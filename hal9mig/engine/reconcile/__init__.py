"""Keeps the two stores in step: rounds, the full pass, repairs, and what somebody has to be told."""
