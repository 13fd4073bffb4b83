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
          b.quarantined, b.bytes, b.digest, b.step_records, b.crashes, b.claimed_at, r.category, r.filter,
          r.options

-- name: extend
-- The heartbeat. Nothing comes back when the lease has gone to another.
UPDATE hal9mig.batches SET lease_until = clock_timestamp() + %(lease)s * interval '1 second'
 WHERE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s AND owner = %(owner)s AND status = 'leased'
RETURNING seq

-- name: attach_backend
UPDATE hal9mig.batches SET backend_pid = %(pid)s
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
          coalesce((SELECT w.draining FROM hal9mig.workers w WHERE w.name = %(worker)s), false) AS draining

-- name: finish
UPDATE hal9mig.batches
   SET status = 'done', finished_at = clock_timestamp(), lease_until = NULL, backend_pid = NULL, error = NULL,
       crashes = 0, planned_records = CASE WHEN kind = 'copy' THEN records + quarantined ELSE planned_records END,
       busy_seconds = busy_seconds + %(seconds)s
 WHERE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s AND owner = %(owner)s AND status = 'leased'
RETURNING seq

-- name: hand_back
UPDATE hal9mig.batches
   SET status = 'planned', lease_until = NULL, backend_pid = NULL, owner = NULL, error = %(error)s,
       busy_seconds = busy_seconds + %(seconds)s,
       crashes = crashes + %(crashed)s::int,
       step_records = CASE WHEN %(crashed)s THEN greatest(0, coalesce(step_records, 1000) / 10) ELSE step_records END,
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
SELECT run_id, seq, backend_pid FROM hal9mig.batches WHERE status = 'leased' AND lease_until < clock_timestamp()

-- name: expire
-- Leases whose owner has been silent. Its session is ended first (see Batches.expire): a frozen worker
-- would otherwise hold its rows' locks against the next attempt. A crash makes the next steps smaller.
UPDATE hal9mig.batches
   SET status = 'planned', crashes = crashes + 1, lease_until = NULL, owner = NULL, error = %(error)s,
       step_records = greatest(0, coalesce(step_records, 1000) / 10)
 WHERE (run_id, seq) IN (
       SELECT run_id, seq FROM hal9mig.batches
        WHERE status = 'leased' AND lease_until < clock_timestamp() FOR UPDATE SKIP LOCKED)
RETURNING run_id, seq, attempt, backend_pid

-- name: expire_owner
-- The same at once, for a worker process that is known to be dead.
UPDATE hal9mig.batches
   SET status = 'planned', crashes = crashes + 1, lease_until = NULL, owner = NULL, error = %(error)s,
       step_records = greatest(0, coalesce(step_records, 1000) / 10)
 WHERE run_id = %(run_id)s AND seq = %(seq)s AND attempt = %(attempt)s AND status = 'leased'
RETURNING run_id, seq, attempt, backend_pid

-- name: end_backend
-- Only a session that was opened before this lease's batch was claimed anew, under our own role.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid = %(pid)s AND usename = current_user AND application_name LIKE 'hal9-migrate %%' AND pid <> pg_backend_pid()

-- name: requeue_lost
-- Published long ago and never claimed: its message is gone.
UPDATE hal9mig.batches SET status = 'planned', queued_at = NULL
 WHERE status = 'queued' AND queued_at < clock_timestamp() - %(seconds)s * interval '1 second'
RETURNING run_id, seq

-- name: under_way
SELECT b.run_id, count(*) FILTER (WHERE b.status = 'queued') AS queued,
       count(*) FILTER (WHERE b.status = 'leased') AS leased,
       extract(epoch FROM clock_timestamp() - min(b.queued_at) FILTER (WHERE b.status = 'queued')) AS oldest
  FROM hal9mig.batches b WHERE b.status IN ('queued', 'leased') GROUP BY b.run_id

-- name: dispatchable
SELECT r.id, r.category, r.priority, r.kind, r.serial, r.options,
       coalesce(sum(b.bytes) FILTER (WHERE b.kind = 'copy') / nullif(sum(b.records) FILTER (WHERE b.kind = 'copy'), 0), 0)
         ::bigint AS record_bytes
  FROM hal9mig.runs r JOIN hal9mig.batches b ON b.run_id = r.id
 WHERE r.status IN ('planning', 'running')
 GROUP BY r.id
HAVING count(*) FILTER (WHERE b.status = 'planned') > 0
 ORDER BY r.priority, r.id

-- name: next_planned
SELECT seq, kind, attempt, planned_records - records - quarantined AS records, after_key, upto_key, cursor_key
  FROM hal9mig.batches
 WHERE run_id = %(run_id)s AND status = 'planned' AND (not_before IS NULL OR not_before < clock_timestamp())
 ORDER BY seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: queue
UPDATE hal9mig.batches SET status = 'queued', attempt = attempt + 1, queued_at = clock_timestamp(), not_before = NULL
 WHERE run_id = %(run_id)s AND seq = ANY(%(seqs)s::int[])
RETURNING seq, attempt

-- name: list
SELECT seq, kind, status, attempt, after_key, upto_key, cursor_key, planned_records, records, quarantined, bytes, digest,
       owner, error, started_at, finished_at, busy_seconds, result
  FROM hal9mig.batches WHERE run_id = %(run_id)s ORDER BY seq

-- name: results
SELECT seq, result FROM hal9mig.batches WHERE run_id = %(run_id)s AND kind = %(kind)s AND status = 'done' ORDER BY seq

-- name: leader
-- One dispatcher at a time in the cluster; a second one finds nothing to do. Ends with the transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended('hal9mig dispatcher', 0)) AS leader
