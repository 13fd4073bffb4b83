-- Alarms, and what the reconciler's rounds need besides.

CREATE TABLE hal9mig.alarms (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL,
    subject      text NOT NULL DEFAULT '',       -- what it is about, where one name can be raised for several
    message      text NOT NULL,
    detail       jsonb NOT NULL DEFAULT '{}',
    raised_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    cleared_at   timestamptz,
    -- Its way to the webhook.
    attempts     integer NOT NULL DEFAULT 0,
    not_before   timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz
);
-- What lasts is raised once, however many rounds see it.
CREATE UNIQUE INDEX alarms_one_open ON hal9mig.alarms (name, subject) WHERE cleared_at IS NULL;
CREATE INDEX alarms_undelivered ON hal9mig.alarms (not_before) WHERE delivered_at IS NULL;

-- The target's record as it was before a repair that deleted it, as JSON text.
ALTER TABLE hal9mig.drifts ADD COLUMN payload text;
CREATE UNIQUE INDEX drifts_one_open ON hal9mig.drifts (category, key) WHERE repaired_at IS NULL;

ALTER TABLE hal9mig.rounds ADD COLUMN seconds double precision NOT NULL DEFAULT 0;  -- spent on comparing
CREATE INDEX rounds_by_age ON hal9mig.rounds (began);
