-- What stands in each of the two stores so that no write is missed.

-- The write mode and its epoch as one number, epoch * 4 + mode: 0 flat-only, 1 dual-write,
-- 2 hierarchical-only, 3 closed to writers while a switch is under way. A sequence, because its value
-- is not a matter of snapshots: a transaction that began before a switch still sees it.
CREATE SEQUENCE hal9cap.state AS bigint MINVALUE 4 START WITH 4;
SELECT setval('hal9cap.state', 4);

-- Keys that were written, in any order; a row is deleted once its key has been applied to the other
-- store. Rows are taken by what is visible and never by "above the last number": numbers are given
-- out in another order than transactions commit.
CREATE TABLE hal9cap.journal (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    category text NOT NULL,
    key      text[] NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

-- Called by every capturing trigger, and by whoever writes: waits for a switch that is under way, and
-- refuses who comes from before it. True when the write has to be journaled.
CREATE FUNCTION hal9cap.admit(side text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    state  bigint;
    epoch  text := current_setting('hal9.epoch', true);
    mode   text;
BEGIN
    -- This system's own writes come from the other side and are not sent back.
    IF current_setting('hal9.apply', true) = 'on' THEN
        RETURN false;
    END IF;
    -- The gate's proof that a table is captured: it writes, looks into the journal, and rolls back.
    IF current_setting('hal9.rehearse', true) = 'on' THEN
        RETURN true;
    END IF;
    -- Shared by all writers until they end; a switch takes it exclusively, and so sees none in flight.
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('hal9cap writers', 0));
    SELECT last_value INTO state FROM hal9cap.state;
    mode := (ARRAY['flat-only', 'dual-write', 'hierarchical-only', 'closed'])[state % 4 + 1];
    IF epoch <> '' AND epoch::bigint <> state / 4 THEN
        RAISE EXCEPTION 'epoch % is over: the write mode is % since epoch %', epoch, mode, state / 4
              USING ERRCODE = 'HL001', HINT = 'Read the write mode again and repeat the transaction.';
    END IF;
    IF mode = 'closed' OR (side = 'flat') = (mode = 'hierarchical-only') THEN
        RAISE EXCEPTION 'the % store takes no writes now: the write mode is %', side, mode
              USING ERRCODE = 'HL002', HINT = 'Read the write mode again and write where it says.';
    END IF;
    RETURN true;
END
$$;
