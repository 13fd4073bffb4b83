-- name: claim
-- The message names an attempt: a second delivery, or one of an older attempt, finds no row.
UPDATE hal9mig.batches b
   SET status = 'leased', owner = %(owner)s, backend_pid = NULL, claimed_at = clock_timestamp(),
       lease_until = clock_timestamp() + %(lease)s * interval '1 second',
       started_at = coalesce(b.started_at, clock_timestamp())
  FROM hal9mig.runs r
 WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s AND b.attempt = %(attempt)s AND b.status = 'queued'
   AND r.id = b.run_id AND r.status IN ('planning', 'running')
RETURNING b.run_id, b.seq, b.kind, b.attempt, b.after_key, b.upto_key, b.cursor_key, b.planned_records, b.records,
          b.quarantined, b.bytes, b.digest, b.step_records, b.crashes, b.claimed_at, b.phase, b.subject, b.result,
          r.kind AS run_kind, r.category, r.filter, r.options

-- name: extend
-- The heartbeat. Nothing comes back when the lease has gone to another.
UPDATE hal9mig.batches SET lease_until = clock_timestamp() + %(lease)s * interval '1 second'
 WHERE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s AND owner = %(owner)s AND status = 'leased'
RETURNING seq

-- name: attach_backend
-- A session that a pooler lends is somebody else's by the time it would be ended.
UPDATE hal9mig.batches SET backend_pid = CASE WHEN pg_backend_pid() = %(pid)s THEN %(pid)s END
 WHERE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s AND owner = %(owner)s AND status = 'leased'
RETURNING seq

-- name: advance
-- The fence, in the transaction of the data: a worker that lost its lease finds no row here and
-- rolls its data back with it. Also tells whether to go on: a pause, a cancel and a draining worker
-- are noticed at each step.
UPDATE hal9mig.batches b
   SET cursor_key = %(cursor)s, records = %(records)s, quarantined = %(quarantined)s, bytes = %(bytes)s,
       digest = %(digest)s, crashes = 0, step_records = %(step_records)s, result = coalesce(%(result)s, b.result),
       lease_until = clock_timestamp() + %(lease)s * interval '1 second'
 WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s AND b.attempt = %(attempt)s AND b.owner = %(owner)s
   AND b.status = 'leased'
RETURNING (SELECT r.status FROM hal9mig.runs r WHERE r.id = b.run_id) AS run_status,
          coalesce((SELECT w.draining FROM hal9mig.workers w WHERE w.name = %(worker)s), false) AS draining,
          -- A look that is too old says nothing, so nothing goes on by it.
          (SELECT CASE WHEN p.looked_at > clock_timestamp() - %(stale)s * interval '1 second' THEN p.share ELSE 0 END
             FROM hal9mig.pace p) AS share

-- name: finish
UPDATE hal9mig.batches
   SET status = 'done', finished_at = clock_timestamp(), lease_until = NULL, backend_pid = NULL, error = NULL,
       crashes = 0, planned_records = CASE WHEN kind IN ('copy', 'export') THEN records + quarantined ELSE planned_records END,
       busy_seconds = busy_seconds + %(seconds)s
 WHERE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s AND owner = %(owner)s AND status = 'leased'
RETURNING seq

-- name: hand_back
UPDATE hal9mig.batches
   SET status = 'planned', lease_until = NULL, backend_pid = NULL, owner = NULL, error = %(error)s,
       busy_seconds = busy_seconds + %(seconds)s,
       crashes = crashes + %(crashed)s::int,
       step_records = CASE WHEN NOT %(crashed)s THEN step_records
                           WHEN coalesce(step_records, 1000) > 1 THEN greatest(1, coalesce(step_records, 1000) / 10)
                           WHEN crashes < 2 THEN 1 ELSE 0 END,
       not_before = CASE WHEN %(delay)s > 0 THEN clock_timestamp() + %(delay)s * interval '1 second' END
 WHERE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s AND owner = %(owner)s AND status = 'leased'
RETURNING seq

-- name: fail
UPDATE hal9mig.batches
   SET status = 'failed', lease_until = NULL, backend_pid = NULL, error = %(error)s,
       busy_seconds = busy_seconds + %(seconds)s
 WHERE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s AND owner = %(owner)s AND status = 'leased'
RETURNING seq

-- name: expired
-- Leases whose owner has been silent, with the session that may still hold locks.
SELECT run_id, seq, backend_pid, lease_until FROM hal9mig.batches
 WHERE status = 'leased' AND lease_until < clock_timestamp()

-- name: expire
-- Leases whose owner has been silent. Its sessions are ended first (see batches.expire): a frozen worker
-- would otherwise hold its rows' locks against the next attempt. A crash makes the next steps smaller,
-- down to one record that is alone with it, and then to none: that record is held back. A batch that
-- cannot be taken apart so (it plans, verifies, or is one transaction) is failed after some crashes; but
-- not a swap, which may have swapped one store of the two.
UPDATE hal9mig.batches b
   SET status = CASE WHEN b.crashes + 1 >= %(most)s AND b.kind <> 'swap'
                      AND (b.kind <> 'copy' OR coalesce((r.options->>'atomic')::boolean, false))
                     THEN 'failed' ELSE 'planned' END,
       crashes = b.crashes + 1, lease_until = NULL, owner = NULL, error = %(error)s,
       step_records = CASE WHEN coalesce(b.step_records, 1000) > 1 THEN greatest(1, coalesce(b.step_records, 1000) / 10)
                           WHEN b.crashes < 2 THEN 1 ELSE 0 END
  FROM hal9mig.runs r
 WHERE r.id = b.run_id AND (b.run_id, b.seq) IN (
       SELECT run_id, seq FROM hal9mig.batches
        WHERE status = 'leased'
          AND CASE WHEN %(run_id)s::bigint IS NULL THEN lease_until < clock_timestamp()
                   ELSE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s END
          FOR UPDATE SKIP LOCKED)
RETURNING b.run_id, b.seq, b.backend_pid, clock_timestamp() AS lease_until

-- name: end_backend
-- All sessions of a worker process, known by the one that writes for its lease: the others may hold
-- locks too. A process that got the number later has opened its session later.
SELECT pg_terminate_backend(o.pid)
  FROM pg_stat_activity a
  JOIN pg_stat_activity o
    ON o.pid = a.pid OR (o.application_name = a.application_name AND a.application_name ~ '^hal9-migrate worker [0-9]')
 WHERE a.pid = %(pid)s AND a.backend_start < %(until)s AND a.application_name LIKE 'hal9-migrate %%'
   AND o.usename = current_user AND o.datname = current_database() AND o.pid <> pg_backend_pid()

-- name: queued
-- Published some time ago and not claimed since: is the message still there?
SELECT b.run_id, b.seq, b.attempt, r.category
  FROM hal9mig.batches b JOIN hal9mig.runs r ON r.id = b.run_id
 WHERE b.status = 'queued' AND b.queued_at < clock_timestamp() - %(seconds)s * interval '1 second'

-- name: requeue
-- Its message is gone. Skips one that a worker is claiming at this very moment.
UPDATE hal9mig.batches SET status = 'planned', queued_at = NULL
 WHERE (run_id, seq) IN (
       SELECT run_id, seq FROM hal9mig.batches
        WHERE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s AND status = 'queued'
          FOR UPDATE SKIP LOCKED)

-- name: under_way
SELECT b.run_id, count(*) FILTER (WHERE b.status = 'queued') AS queued,
       count(*) FILTER (WHERE b.status = 'leased') AS leased,
       extract(epoch FROM clock_timestamp() - min(b.queued_at) FILTER (WHERE b.status = 'queued')) AS oldest
  FROM hal9mig.batches b WHERE b.status IN ('queued', 'leased') GROUP BY b.run_id

-- name: oldest_migration
SELECT coalesce(min(id), 0) AS id FROM hal9mig.runs
 WHERE kind = 'migrate' AND status IN ('planning', 'running') AND NOT coalesce(options->'tuning' ? 'rate-limit', false)

-- name: busy
SELECT EXISTS (
    SELECT FROM hal9mig.runs r JOIN hal9mig.batches b ON b.run_id = r.id
     WHERE r.status IN ('planning', 'running') AND b.status IN ('planned', 'queued', 'leased'))

-- name: dispatchable
SELECT r.id, r.category, r.priority, r.kind, r.serial, r.options,
       coalesce(sum(b.bytes) FILTER (WHERE b.kind <> 'plan') / nullif(sum(b.records) FILTER (WHERE b.kind <> 'plan'), 0), 0)
         ::bigint AS record_bytes
  FROM hal9mig.runs r JOIN hal9mig.batches b ON b.run_id = r.id
 WHERE r.status IN ('planning', 'running')
 GROUP BY r.id
HAVING count(*) FILTER (WHERE b.status = 'planned') > 0
   -- A checkpoint or a restore is whole or nothing: after a failure the rest would be for nothing.
   AND NOT (r.kind IN ('checkpoint', 'compare', 'restore') AND count(*) FILTER (WHERE b.status = 'failed') > 0)
 ORDER BY r.priority, r.id

-- name: lock_active
-- A pause or cancel at the same moment waits until what is published now can be called back, or is
-- seen here. One that is under way already keeps the run out of this tick.
SELECT FROM hal9mig.runs WHERE id = %(run_id)s AND status IN ('planning', 'running') FOR SHARE SKIP LOCKED

-- name: next_planned
-- A phase waits until every batch of the earlier ones is done.
SELECT seq, kind, attempt, planned_records - records - quarantined AS records, cost, after_key, upto_key, cursor_key,
       subject
  FROM hal9mig.batches
 WHERE run_id = %(run_id)s AND status = 'planned' AND (not_before IS NULL OR not_before < clock_timestamp())
   AND phase <= (SELECT min(phase) FROM hal9mig.batches WHERE run_id = %(run_id)s AND status <> 'done')
 ORDER BY seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: queue
UPDATE hal9mig.batches SET status = 'queued', attempt = attempt + 1, queued_at = clock_timestamp(), not_before = NULL
 WHERE run_id = %(run_id)s AND seq = ANY(%(seqs)s::int[])
RETURNING seq, attempt

-- name: list
SELECT seq, kind, status, attempt, after_key, upto_key, cursor_key, planned_records, records, quarantined, bytes, digest,
       owner, error, started_at, finished_at, busy_seconds, phase, subject, cost, result
  FROM hal9mig.batches WHERE run_id = %(run_id)s ORDER BY seq

-- name: urgent
-- What needs a look comes first: what failed, what is under way, what met an error; then what was done last, and what
-- comes next.
-- The batch that planned the others says nothing once it has.
SELECT seq, kind, status, attempt, planned_records, records, quarantined, owner, error, started_at, finished_at,
       busy_seconds, subject
  FROM hal9mig.batches WHERE run_id = %(run_id)s AND (kind <> 'plan' OR status <> 'done')
 ORDER BY CASE WHEN status = 'planned' AND error IS NOT NULL THEN 4 WHEN status = 'done' THEN 5 WHEN status = 'planned' THEN 6
               ELSE array_position(ARRAY['failed', 'leased', 'queued'], status::text) END,
          CASE WHEN status = 'done' THEN -extract(epoch FROM finished_at) ELSE seq END
 LIMIT %(limit)s

-- name: statuses
SELECT status, count(*) AS batches FROM hal9mig.batches
 WHERE run_id = %(run_id)s AND (kind <> 'plan' OR status <> 'done') GROUP BY status

-- name: renew
-- What was read under a snapshot that is gone: it is compared under the new one, its file kept where it is equal.
UPDATE hal9mig.batches SET status = 'planned', owner = NULL, lease_until = NULL, queued_at = NULL
 WHERE run_id = %(run_id)s AND kind = ANY(%(kinds)s::text[]) AND status IN ('done', 'leased', 'queued')

-- name: forget
DELETE FROM hal9mig.batches WHERE run_id = %(run_id)s AND seq > 0

-- name: begin_anew
UPDATE hal9mig.batches
   SET status = 'planned', cursor_key = NULL, records = 0, bytes = 0, crashes = 0, owner = NULL, lease_until = NULL,
       result = NULL
 WHERE run_id = %(run_id)s AND seq = 0

-- name: anything
-- One look with two partial indexes, which most often hold nothing.
SELECT EXISTS (SELECT FROM hal9mig.runs WHERE status NOT IN ('cancelled', 'failed', 'succeeded') AND status <> 'paused')
    OR EXISTS (SELECT FROM hal9mig.batches WHERE status IN ('queued', 'leased'))

-- name: leader
-- One dispatcher at a time in the cluster; a second one finds nothing to do. Ends with the transaction,
-- which the server ends when its process is frozen: nobody else could dispatch while it lasts.
SELECT set_config('idle_in_transaction_session_timeout', %(patience)s, true),
       pg_try_advisory_xact_lock(hashtextextended('hal9mig dispatcher', 0)) AS leader
