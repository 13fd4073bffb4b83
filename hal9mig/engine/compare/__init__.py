"""Whether both stores hold the same: digests, keys, records, fields, and the one judge of a difference."""
