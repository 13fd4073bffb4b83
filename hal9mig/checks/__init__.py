"""Domain checks: what one category promises beyond equal rows, tried on both stores; one module a domain."""
