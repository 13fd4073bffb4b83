-- name: create
INSERT INTO hal9mig.instants (run_id) VALUES (%(run_id)s) ON CONFLICT DO NOTHING

-- name: read
SELECT run_id, number, flat, hierarchical, positions, kept_until > clock_timestamp() AS kept
  FROM hal9mig.instants WHERE run_id = %(run_id)s

-- name: anything
-- Whether anybody holds an instant or has left a table: mostly nobody does, and one question tells so.
SELECT EXISTS (SELECT FROM hal9mig.instants) OR EXISTS (SELECT FROM hal9mig.shadows) AS found

-- name: unkept
-- Checkpoints under way whose snapshots nobody holds: they are new, or their keeper has fallen silent.
SELECT i.run_id FROM hal9mig.instants i JOIN hal9mig.runs r ON r.id = i.run_id
 WHERE i.kept_until < clock_timestamp() AND r.status IN ('planning', 'running')
 ORDER BY i.run_id

-- name: claim
UPDATE hal9mig.instants
   SET number = number + 1, flat = NULL, hierarchical = NULL, keeper = %(keeper)s,
       kept_until = clock_timestamp() + %(lease)s * interval '1 second'
 WHERE run_id = %(run_id)s AND kept_until < clock_timestamp()
RETURNING number

-- name: publish
UPDATE hal9mig.instants
   SET flat = %(flat)s, hierarchical = %(hierarchical)s, positions = %(positions)s,
       kept_until = clock_timestamp() + %(lease)s * interval '1 second'
 WHERE run_id = %(run_id)s AND number = %(number)s AND keeper = %(keeper)s AND kept_until > clock_timestamp()
RETURNING number

-- name: extend
-- Whether the run still wants it, too: one that is paused or has ended does not.
UPDATE hal9mig.instants i SET kept_until = clock_timestamp() + %(lease)s * interval '1 second'
  FROM hal9mig.runs r
 WHERE i.run_id = %(run_id)s AND i.number = %(number)s AND i.keeper = %(keeper)s AND i.kept_until > clock_timestamp()
   AND r.id = i.run_id AND r.status IN ('planning', 'running')
RETURNING i.number

-- name: release
UPDATE hal9mig.instants SET kept_until = '-infinity', flat = NULL, hierarchical = NULL
 WHERE run_id = %(run_id)s AND number = %(number)s AND keeper = %(keeper)s

-- name: remove
DELETE FROM hal9mig.instants WHERE run_id = %(run_id)s

-- name: shadowed
INSERT INTO hal9mig.shadows (run_id) VALUES (%(run_id)s) ON CONFLICT DO NOTHING

-- name: unshadowed
DELETE FROM hal9mig.shadows WHERE run_id = %(run_id)s

-- name: shadowing
SELECT run_id FROM hal9mig.shadows ORDER BY run_id

-- name: leavings
-- Runs that have ended without success, and have left something behind.
SELECT r.id AS run_id, r.kind, r.options FROM hal9mig.runs r
 WHERE r.status IN ('failed', 'cancelled')
   AND (r.id IN (SELECT run_id FROM hal9mig.instants) OR r.id IN (SELECT run_id FROM hal9mig.shadows))

-- name: lock_leavings
SELECT pg_try_advisory_xact_lock(hashtextextended('hal9mig leavings', 0)) AS mine

-- name: wait_leavings
SELECT pg_advisory_xact_lock(hashtextextended('hal9mig leavings', 0))

-- name: lock_ended
SELECT FROM hal9mig.runs WHERE id = %(run_id)s AND status IN ('failed', 'cancelled') FOR UPDATE

-- name: positions
SELECT (SELECT coalesce(max(id), 0) FROM hal9mig.runs) AS last_run,
       (SELECT coalesce(max(id), 0) FROM hal9mig.events) AS last_event,
       pg_current_snapshot()::text AS snapshot

-- name: reset_category
DELETE FROM hal9mig.marks WHERE category = ANY(%(categories)s::text[])

-- name: reset_sweeps
DELETE FROM hal9mig.sweeps WHERE category = ANY(%(categories)s::text[])

-- name: close_drifts
UPDATE hal9mig.drifts SET repaired_at = clock_timestamp(), repair = %(repair)s
 WHERE repaired_at IS NULL AND category = ANY(%(categories)s::text[])

-- name: set_standstill
UPDATE hal9mig.mode SET standstill = %(reason)s

-- name: standstill
SELECT coalesce(
    (SELECT 'run ' || id || ' restores a checkpoint' FROM hal9mig.runs
      WHERE kind = 'restore' AND status NOT IN ('cancelled', 'failed', 'succeeded') LIMIT 1),
    (SELECT standstill FROM hal9mig.mode), '')
