-- The ledger. It lives beside the hierarchical tables, so that a batch's rows and the note that
-- they were written commit together.

CREATE TABLE hal9mig.runs (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind            text NOT NULL,
    category        text NOT NULL,
    status          text NOT NULL,
    status_since    timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason          text NOT NULL DEFAULT '',     -- why it has this status
    waiting         text NOT NULL DEFAULT '',     -- why nothing of it is dispatched just now
    priority        smallint NOT NULL,
    filter          text NOT NULL DEFAULT '',
    options         jsonb NOT NULL DEFAULT '{}',
    planned         boolean NOT NULL DEFAULT false,
    serial          boolean NOT NULL DEFAULT false,   -- one batch at a time, in key order
    requested_by    text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    finished_at     timestamptz
);
-- Two coordinators that start the same category at once: the second one's insert fails here.
CREATE UNIQUE INDEX runs_one_active_migration ON hal9mig.runs (category)
    WHERE kind = 'migrate' AND status NOT IN ('cancelled', 'failed', 'succeeded');
CREATE INDEX runs_active ON hal9mig.runs (priority, id) WHERE status NOT IN ('cancelled', 'failed', 'succeeded');

CREATE TABLE hal9mig.batches (
    run_id          bigint NOT NULL REFERENCES hal9mig.runs ON DELETE CASCADE,
    seq             integer NOT NULL,             -- 0 plans the others
    kind            text NOT NULL,
    status          text NOT NULL DEFAULT 'planned',
    attempt         integer NOT NULL DEFAULT 0,   -- the fence: only the newest attempt may write
    after_key       jsonb,                        -- exclusive; null is open
    upto_key        jsonb,                        -- inclusive; null is open
    cursor_key      jsonb,                        -- the last key whose transaction committed
    planned_records bigint NOT NULL DEFAULT 0,
    records         bigint NOT NULL DEFAULT 0,
    quarantined     bigint NOT NULL DEFAULT 0,
    bytes           bigint NOT NULL DEFAULT 0,
    digest          bigint NOT NULL DEFAULT 0,    -- sum of record hashes at the source, modulo 2^64
    step_records    integer,                      -- smaller than usual after a crash, to find the culprit
    crashes         integer NOT NULL DEFAULT 0,   -- since the cursor last moved
    owner           text,
    backend_pid     integer,                      -- the owner's session here, ended when its lease expires
    lease_until     timestamptz,
    queued_at       timestamptz,
    claimed_at      timestamptz,                  -- before the present lease began to read
    not_before      timestamptz,
    started_at      timestamptz,
    finished_at     timestamptz,
    busy_seconds    double precision NOT NULL DEFAULT 0,
    error           text,
    result          jsonb,
    PRIMARY KEY (run_id, seq)
);
CREATE INDEX batches_planned ON hal9mig.batches (run_id, seq) WHERE status = 'planned';
CREATE INDEX batches_under_way ON hal9mig.batches (status) WHERE status IN ('queued', 'leased');

CREATE TABLE hal9mig.quarantine (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    category          text NOT NULL,
    key               jsonb NOT NULL,
    status            text NOT NULL DEFAULT 'held',  -- held | released | dropped
    error             text NOT NULL,
    payload           text,                          -- the flat row as JSON text, as it was when it was held
    transform_version integer NOT NULL,
    run_id            bigint,
    attempts          integer NOT NULL DEFAULT 1,
    found_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX quarantine_one_held ON hal9mig.quarantine (category, key) WHERE status = 'held';

CREATE TABLE hal9mig.differences (
    run_id    bigint NOT NULL REFERENCES hal9mig.runs ON DELETE CASCADE,
    seq       integer NOT NULL,
    key       jsonb NOT NULL,
    kind      text NOT NULL,                       -- missing | extra | mismatch
    fields    jsonb NOT NULL DEFAULT '[]'
);
CREATE INDEX differences_of_run ON hal9mig.differences (run_id, seq);

CREATE TABLE hal9mig.tuning (
    name       text PRIMARY KEY,
    value      text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE hal9mig.workers (
    name        text PRIMARY KEY,
    host        text NOT NULL,
    pid         integer NOT NULL,
    slots       integer NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    draining    boolean NOT NULL DEFAULT false,
    rss_bytes   bigint NOT NULL DEFAULT 0,
    cpu_percent real NOT NULL DEFAULT 0
);

CREATE TABLE hal9mig.events (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text NOT NULL,
    action   text NOT NULL,
    run_id   bigint,
    detail   jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_by_run ON hal9mig.events (run_id, id);
