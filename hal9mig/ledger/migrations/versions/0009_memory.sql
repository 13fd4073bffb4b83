-- Pages that a worker's processes share count once, which resident sizes do not.
ALTER TABLE hal9mig.workers RENAME COLUMN rss_bytes TO memory_bytes;
