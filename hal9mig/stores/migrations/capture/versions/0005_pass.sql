-- What whoever writes as this system has to know: who reads this row may write past capture and barrier, and
-- nobody else. It is read by the server itself (set_config of a SELECT), so it stands in no statement and no log.
CREATE TABLE hal9cap.pass (token text NOT NULL);
INSERT INTO hal9cap.pass VALUES (gen_random_uuid()::text || gen_random_uuid()::text);
REVOKE ALL ON hal9cap.pass FROM PUBLIC;

-- The tables whose triggers were made, partitions and children too, as the server knows them and not by name: a
-- table that was replaced under its name, or one that came to it or left it since, is told from those.
CREATE TABLE hal9cap.captured (
    category text NOT NULL,
    declared text NOT NULL,
    relation oid NOT NULL,
    PRIMARY KEY (category, declared, relation)
);

CREATE OR REPLACE FUNCTION hal9cap.admit(side text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    state  bigint;
    epoch  text;
    mode   text;
BEGIN
    -- This system's own writes come from the other side and are not sent back. The words alone are nothing: any
    -- role can set them.
    IF current_setting('hal9.apply', true) <> '' THEN
        IF EXISTS (SELECT FROM hal9cap.pass WHERE token = current_setting('hal9.apply', true)) THEN
            RETURN false;
        END IF;
    -- The gate's proof that a table is captured: it writes, looks into the journal, and rolls back.
    ELSIF current_setting('hal9.rehearse', true) <> '' THEN
        IF EXISTS (SELECT FROM hal9cap.pass WHERE token = current_setting('hal9.rehearse', true)) THEN
            RETURN true;
        END IF;
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
