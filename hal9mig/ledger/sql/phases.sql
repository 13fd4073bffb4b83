-- name: add_validation
INSERT INTO hal9mig.validations (phase, epoch, passed, lines, actor)
VALUES (%(phase)s, %(epoch)s, %(passed)s, %(lines)s::jsonb, %(actor)s) RETURNING id

-- name: validations
SELECT id, at, phase, epoch, passed, lines, actor FROM hal9mig.validations
 WHERE phase = %(phase)s ORDER BY id DESC LIMIT %(limit)s

-- name: lock_phase
SELECT pg_advisory_xact_lock(hashtextextended('hal9mig phase ' || %(phase)s, 0))

-- name: complete
INSERT INTO hal9mig.completions (phase, validation, reason, actor)
VALUES (%(phase)s, %(validation)s, %(reason)s, %(actor)s) RETURNING id

-- name: completions
SELECT id, at, phase, validation, reason, actor FROM hal9mig.completions
 WHERE phase = %(phase)s ORDER BY id DESC LIMIT %(limit)s

-- name: attest
INSERT INTO hal9mig.attestations (phase, item, note, actor)
VALUES (%(phase)s, %(item)s, %(note)s, %(actor)s) RETURNING id

-- name: attestations
-- Of each item the newest.
SELECT DISTINCT ON (item) id, at, phase, item, note, actor FROM hal9mig.attestations
 WHERE phase = %(phase)s ORDER BY item, id DESC

-- name: pace_of_batches
-- Records of migrations, by category and the moment their batches ended, in steps of so many seconds.
SELECT r.category, floor(extract(epoch FROM b.finished_at) / %(seconds)s)::bigint * %(seconds)s AS at,
       sum(b.records) AS records
  FROM hal9mig.batches b JOIN hal9mig.runs r ON r.id = b.run_id
 WHERE r.kind = 'migrate' AND b.kind = 'copy' AND b.finished_at IS NOT NULL
   AND (%(since)s::timestamptz IS NULL OR b.finished_at >= %(since)s)
 GROUP BY 1, 2 ORDER BY 2, 1

-- name: pace_of_run
SELECT r.category, floor(extract(epoch FROM b.finished_at) / %(seconds)s)::bigint * %(seconds)s AS at,
       sum(b.records + b.quarantined) AS records
  FROM hal9mig.batches b JOIN hal9mig.runs r ON r.id = b.run_id
 WHERE r.id = %(run_id)s AND b.kind <> 'plan' AND b.finished_at IS NOT NULL
 GROUP BY 1, 2 ORDER BY 2

-- name: drift_causes
SELECT category, kind, cause, coalesce(repair, '') AS repair, count(*) AS drifts, min(found_at) AS first,
       count(*) FILTER (WHERE repaired_at IS NULL) AS left_open
  FROM hal9mig.drifts GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4

-- name: quarantine_causes
SELECT category, status, error, count(*) AS records, min(found_at) AS first
  FROM hal9mig.quarantine GROUP BY 1, 2, 3 ORDER BY records DESC, 1, 3 LIMIT %(limit)s

-- name: last_event
SELECT id, at FROM hal9mig.events ORDER BY id DESC LIMIT 1

-- name: finished
-- Whether capture was taken out, or is being taken out, since the write mode last changed.
SELECT c.phase, c.at, c.actor, c.reason FROM hal9mig.completions c, hal9mig.mode m
 WHERE c.phase IN ('finishing', 'finished') AND c.at >= m.since ORDER BY c.id DESC LIMIT 1

-- name: forget_work
-- What was copied is no more kept in step, so that it counts for nothing.
UPDATE hal9mig.runs SET undone_at = clock_timestamp() WHERE kind = 'migrate' AND undone_at IS NULL

-- name: forget_covers
DELETE FROM hal9mig.restored_covers

-- name: forget_passes
DELETE FROM hal9mig.sweeps
