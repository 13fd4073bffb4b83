"""The report of a phase: one model, filled from the ledger in one snapshot, and its forms."""
