-- How much the application feels, and so how much of their time workers may spend on what can wait. One row.
CREATE TABLE hal9mig.pace (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    turn_at       timestamptz NOT NULL DEFAULT '-infinity',  -- when somebody last set out to look
    looked_at     timestamptz,                               -- when a look last told something
    quiet_at      timestamptz,                               -- when the quiet values were last looked at
    quiet_write   double precision NOT NULL DEFAULT 0,       -- seconds, with nothing of ours going on
    quiet_read    double precision NOT NULL DEFAULT 0,
    quiet_active  double precision NOT NULL DEFAULT 0,       -- sessions
    quiet_waiting double precision NOT NULL DEFAULT 0,
    write         double precision NOT NULL DEFAULT 0,       -- the same at present
    read          double precision NOT NULL DEFAULT 0,
    active        double precision NOT NULL DEFAULT 0,
    waiting       double precision NOT NULL DEFAULT 0,
    share         double precision NOT NULL DEFAULT 1,       -- of their time; 0 is to stand still
    reason        text NOT NULL DEFAULT ''
);
INSERT INTO hal9mig.pace DEFAULT VALUES;
