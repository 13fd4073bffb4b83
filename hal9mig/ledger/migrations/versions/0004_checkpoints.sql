-- Checkpoints and restores.

ALTER TABLE hal9mig.batches
    ADD COLUMN phase   smallint NOT NULL DEFAULT 0,   -- those of a later phase wait until all earlier ones are done
    ADD COLUMN subject text NOT NULL DEFAULT '',      -- what it is about where a range says too little: a table
    ADD COLUMN cost    bigint;                        -- records it takes from the budget; null: as many as it has

-- A restore has taken back what this run had copied, so it counts as migrated no more.
ALTER TABLE hal9mig.runs ADD COLUMN undone_at timestamptz;
-- One checkpoint of a name at a time, and one restore in the cluster.
CREATE UNIQUE INDEX runs_one_checkpoint_of_a_name ON hal9mig.runs ((options->>'checkpoint'))
    WHERE kind = 'checkpoint' AND status NOT IN ('cancelled', 'failed', 'succeeded');
CREATE UNIQUE INDEX runs_one_restore ON hal9mig.runs (kind)
    WHERE kind = 'restore' AND status NOT IN ('cancelled', 'failed', 'succeeded');

-- The exported snapshots that a checkpoint is read under, and who holds them open. A row stays until
-- the checkpoint is whole or its leavings are gone.
CREATE TABLE hal9mig.instants (
    run_id       bigint PRIMARY KEY REFERENCES hal9mig.runs ON DELETE CASCADE,
    number       integer NOT NULL DEFAULT 0,          -- goes up whenever snapshots are taken anew
    flat         text,
    hierarchical text,
    positions    jsonb NOT NULL DEFAULT '{}',
    keeper       text NOT NULL DEFAULT '',
    kept_until   timestamptz NOT NULL DEFAULT '-infinity'
);

-- A restore that has shadow tables in the stores. A row stays until they are live or gone.
CREATE TABLE hal9mig.shadows (
    run_id bigint PRIMARY KEY REFERENCES hal9mig.runs ON DELETE CASCADE
);

-- What a restored store holds as migrated: the coverage as of its checkpoint.
CREATE TABLE hal9mig.restored_covers (
    category  text NOT NULL,
    filter    text NOT NULL,
    after_key jsonb,
    upto_key  jsonb
);
CREATE INDEX restored_covers_by_category ON hal9mig.restored_covers (category);

-- Why the stores are not to be compared or repaired now; '' when they are.
ALTER TABLE hal9mig.mode ADD COLUMN standstill text NOT NULL DEFAULT '';

-- Where a held record comes from: '' where it could not be migrated, recover where a checkpoint was damaged.
ALTER TABLE hal9mig.quarantine ADD COLUMN origin text NOT NULL DEFAULT '';
