-- The same rules as before, as expressions that are evaluated without planning or running a query: each
-- write of the application pays for this.
CREATE OR REPLACE FUNCTION hal9cap.admit(side text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    state  bigint;
    epoch  text;
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
    IF pg_advisory_xact_lock_shared(hashtextextended('hal9cap writers', 0)) IS NULL THEN
        RAISE EXCEPTION 'a lock gives no answer';
    END IF;
    -- After the lock, and the value at this instant: a snapshot of before the switch would do as if there were none.
    state := pg_sequence_last_value('hal9cap.state');
    epoch := current_setting('hal9.epoch', true);
    IF (epoch IS NULL OR epoch = '' OR epoch::bigint = state / 4)
       AND state % 4 <> 3 AND (side = 'flat') = (state % 4 < 2) THEN
        RETURN true;
    END IF;
    mode := (ARRAY['flat-only', 'dual-write', 'hierarchical-only', 'closed'])[state % 4 + 1];
    IF epoch <> '' AND epoch::bigint <> state / 4 THEN
        RAISE EXCEPTION 'epoch % is over: the write mode is % since epoch %', epoch, mode, state / 4
              USING ERRCODE = 'HL001', HINT = 'Read the write mode again and repeat the transaction.';
    END IF;
    RAISE EXCEPTION 'the % store takes no writes now: the write mode is %', side, mode
          USING ERRCODE = 'HL002', HINT = 'Read the write mode again and write where it says.';
END
$$;
