-- Writing, reconciling and switching over while the application goes on.

CREATE TABLE hal9mig.mode (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    mode       text NOT NULL DEFAULT 'flat-only',
    epoch      bigint NOT NULL DEFAULT 1,
    -- A switch under way: where it goes and the last step that is done; null when none is.
    target     text,
    step       text,
    actor      text NOT NULL DEFAULT '',
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    attested   jsonb NOT NULL DEFAULT '{}'
);
INSERT INTO hal9mig.mode DEFAULT VALUES;

-- Keys that are being applied: a copy that read the source before must not write them.
CREATE TABLE hal9mig.marks (
    category text NOT NULL,
    key      text[] NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (category, key)
);
CREATE INDEX marks_by_age ON hal9mig.marks (at);

CREATE TABLE hal9mig.drifts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    category    text NOT NULL,
    key         jsonb NOT NULL,
    kind        text NOT NULL,                    -- missing | extra | mismatch
    cause       text NOT NULL,
    round       bigint,
    found_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    repaired_at timestamptz,
    repair      text                              -- how, or why not
);
CREATE INDEX drifts_by_key ON hal9mig.drifts (category, key);
CREATE INDEX drifts_open ON hal9mig.drifts (category) WHERE repaired_at IS NULL;

CREATE TABLE hal9mig.sweeps (
    category       text PRIMARY KEY,
    position       jsonb,                         -- the last key looked at in this pass; null at its start
    pass           bigint NOT NULL DEFAULT 1,
    pass_began     timestamptz NOT NULL DEFAULT clock_timestamp(),
    records        bigint NOT NULL DEFAULT 0,     -- looked at in this pass
    differing      bigint NOT NULL DEFAULT 0,     -- found in this pass
    clean_from     timestamptz,                   -- the start of the newest pass that found nothing
    clean_until    timestamptz                    -- and its end
);

CREATE TABLE hal9mig.rounds (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended      timestamptz,
    applied    bigint NOT NULL DEFAULT 0,
    compared   bigint NOT NULL DEFAULT 0,
    found      bigint NOT NULL DEFAULT 0,
    repaired   bigint NOT NULL DEFAULT 0,
    lag_records bigint NOT NULL DEFAULT 0,
    lag_seconds double precision NOT NULL DEFAULT 0,
    error      text
);

CREATE TABLE hal9mig.certificates (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text NOT NULL,
    document jsonb NOT NULL
);
