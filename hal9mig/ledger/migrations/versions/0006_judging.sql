-- Checks, validations of a phase, what people attest, and windows that are monitored.

CREATE TABLE hal9mig.check_results (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    command      text NOT NULL,                   -- that ran it: state validate, ux-test, benchmark, ...
    category     text NOT NULL,
    name         text NOT NULL,                   -- of the check: continuity, signals, benchmark:read, ...
    verdict      text NOT NULL CHECK (verdict IN ('passed', 'failed', 'skipped')),
    detail       text NOT NULL DEFAULT '',        -- the finding as a sentence
    next_command text NOT NULL DEFAULT '',        -- what mends it, or tells more
    measured     jsonb NOT NULL DEFAULT '{}',
    actor        text NOT NULL
);
CREATE INDEX check_results_newest ON hal9mig.check_results (category, name, id DESC);

CREATE TABLE hal9mig.validations (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    phase  text NOT NULL,
    epoch  bigint NOT NULL,                       -- of the write mode that it judged
    passed boolean NOT NULL,
    lines  jsonb NOT NULL,                        -- each line: its words, whether it is good, and its evidence
    actor  text NOT NULL
);

CREATE TABLE hal9mig.completions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    phase      text NOT NULL,
    validation bigint REFERENCES hal9mig.validations, -- null when it was forced without one
    reason     text NOT NULL DEFAULT '',          -- why it was forced
    actor      text NOT NULL
);

CREATE TABLE hal9mig.attestations (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    phase text NOT NULL,
    item  text NOT NULL,
    note  text NOT NULL DEFAULT '',
    actor text NOT NULL
);

CREATE TABLE hal9mig.monitors (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text NOT NULL,                 -- of the window: post-state-migration
    began_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    until_at       timestamptz NOT NULL,
    ended_at       timestamptz,
    alert_on_drift boolean NOT NULL DEFAULT false,
    summary        jsonb NOT NULL DEFAULT '{}',
    actor          text NOT NULL
);
-- One at a time of each name.
CREATE UNIQUE INDEX monitors_open ON hal9mig.monitors (name) WHERE ended_at IS NULL;
