"""What is known: runs, batches, leases, quarantine, tuning, workers and events, in PostgreSQL."""
