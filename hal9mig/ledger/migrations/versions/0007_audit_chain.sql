-- The audit as a chain of hashes: an event is sealed after it was committed, never while it is written, so that
-- nobody's transaction waits for another's.
ALTER TABLE hal9mig.events ADD COLUMN place bigint, ADD COLUMN seal bytea;
CREATE UNIQUE INDEX events_by_place ON hal9mig.events (place);
CREATE INDEX events_open ON hal9mig.events (id) WHERE place IS NULL;
