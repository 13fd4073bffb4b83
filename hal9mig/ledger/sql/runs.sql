-- name: insert
INSERT INTO hal9mig.runs (kind, category, status, reason, priority, filter, options, serial, requested_by)
VALUES (%(kind)s, %(category)s, 'planning', 'started', %(priority)s, %(filter)s, %(options)s, %(serial)s, %(actor)s)
RETURNING id

-- name: insert_batch
INSERT INTO hal9mig.batches (run_id, seq, kind, after_key, upto_key, planned_records, phase, subject, cost)
VALUES (%(run_id)s, %(seq)s, %(kind)s, %(after)s, %(upto)s, %(records)s, %(phase)s, %(subject)s, %(cost)s)

-- name: select
-- One row a run, with what its batches add up to.
SELECT r.id, r.kind, r.category, r.status, r.reason, r.waiting, r.priority, r.filter, r.options, r.planned, r.serial,
       r.created_at, r.started_at, r.finished_at, r.requested_by, r.status_since, r.undone_at,
       coalesce(b.total_records, 0) AS total_records, coalesce(b.done_records, 0) AS done_records,
       coalesce(b.quarantined, 0) AS quarantined, coalesce(b.total_batches, 0) AS total_batches,
       coalesce(b.done_batches, 0) AS done_batches, coalesce(b.bytes, 0) AS bytes,
       coalesce(b.leased, 0) AS leased, coalesce(b.queued, 0) AS queued,
       coalesce(b.recent_records, 0) AS recent_records
  FROM hal9mig.runs r
  LEFT JOIN LATERAL (
       SELECT sum(planned_records)::bigint AS total_records, sum(records + quarantined)::bigint AS done_records,
              sum(quarantined)::bigint AS quarantined, count(*) AS total_batches,
              count(*) FILTER (WHERE status = 'done') AS done_batches, sum(bytes)::bigint AS bytes,
              count(*) FILTER (WHERE status = 'leased') AS leased, count(*) FILTER (WHERE status = 'queued') AS queued,
              sum(records) FILTER (WHERE finished_at > clock_timestamp() - interval '10 seconds')::bigint
                AS recent_records
         FROM hal9mig.batches WHERE run_id = r.id AND kind <> 'plan') b ON true
 WHERE (%(id)s::bigint IS NULL OR r.id = %(id)s)
   AND (%(kind)s::text IS NULL OR r.kind = %(kind)s)
   AND (%(category)s::text IS NULL OR r.category = %(category)s)
   AND (NOT %(active)s OR r.status NOT IN ('cancelled', 'failed', 'succeeded'))
   AND (%(before)s::bigint IS NULL OR r.id < %(before)s)
 ORDER BY r.id DESC
 LIMIT %(limit)s

-- name: newest
-- Of each kind and category the newest run.
SELECT DISTINCT ON (kind, category) id FROM hal9mig.runs ORDER BY kind, category, id DESC

-- name: speeds
-- Records a second of runs under way, over windows of time as far back as they have been going on without a stop.
SELECT r.id, coalesce(sum(b.records + b.quarantined), 0)::float8 / w.seconds AS speed
  FROM hal9mig.runs r
 CROSS JOIN LATERAL (
       SELECT DISTINCT least(asked, greatest(extract(epoch FROM clock_timestamp() - r.status_since), 1))::float8 AS seconds
         FROM unnest(%(windows)s::float8[]) asked) w
  LEFT JOIN hal9mig.batches b
         ON b.run_id = r.id AND b.kind <> 'plan' AND b.finished_at > clock_timestamp() - make_interval(secs => w.seconds)
 WHERE r.status = 'running'
 GROUP BY r.id, w.seconds

-- name: lock
-- A process that is frozen now would hold up everybody who looks after runs: the server ends it.
SELECT status, planned, kind, set_config('idle_in_transaction_session_timeout', '10s', true)
  FROM hal9mig.runs WHERE id = %(id)s FOR UPDATE

-- name: set_status
UPDATE hal9mig.runs
   SET status = %(status)s, reason = %(reason)s, status_since = clock_timestamp(), waiting = '',
       started_at = CASE WHEN %(status)s = 'running' THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,
       finished_at = CASE WHEN %(status)s IN ('cancelled', 'failed', 'succeeded') THEN clock_timestamp() END
 WHERE id = %(id)s

-- name: set_planned
UPDATE hal9mig.runs SET planned = true WHERE id = %(id)s

-- name: set_waiting
UPDATE hal9mig.runs SET waiting = %(waiting)s WHERE id = %(id)s AND waiting <> %(waiting)s

-- name: call_back
-- What is queued but not leased goes back, so that a pause or cancel acts at once.
UPDATE hal9mig.batches SET status = 'planned', queued_at = NULL WHERE run_id = %(id)s AND status = 'queued'

-- name: retry_failed
UPDATE hal9mig.batches SET status = 'planned', crashes = 0, error = NULL WHERE run_id = %(id)s AND status = 'failed'

-- name: ends
-- Runs that have nothing left to wait for in their present status.
SELECT r.id, r.status, r.reason, r.planned,
       count(*) FILTER (WHERE b.status = 'leased') AS leased,
       count(*) FILTER (WHERE b.status = 'failed') AS failed,
       count(*) FILTER (WHERE b.status NOT IN ('done', 'failed')) AS open,
       min(b.error) FILTER (WHERE b.status = 'failed') AS error,
       extract(epoch FROM clock_timestamp() - r.status_since) AS seconds
  FROM hal9mig.runs r JOIN hal9mig.batches b ON b.run_id = r.id
 WHERE r.status NOT IN ('cancelled', 'failed', 'succeeded', 'paused')
   AND (%(id)s::bigint IS NULL OR r.id = %(id)s)
 GROUP BY r.id

-- name: covers
-- Finished and unfinished migrations of a category: what part of the flat table counts as migrated.
SELECT r.id, r.filter, r.status = 'succeeded' AS complete
  FROM hal9mig.runs r
 WHERE r.kind = 'migrate' AND r.category = %(category)s AND r.undone_at IS NULL
 ORDER BY r.id

-- name: done_ranges
-- What unfinished runs have copied, as ranges that touch joined into one.
SELECT run_id, (array_agg(after_key ORDER BY seq))[1] AS after_key,
       (array_agg(last_key ORDER BY seq DESC))[1] AS upto_key
  FROM (SELECT run_id, seq, after_key, CASE WHEN status = 'done' THEN upto_key ELSE cursor_key END AS last_key,
               -- A batch that is done in part touches the one before it, never the one after.
               seq - row_number() OVER (PARTITION BY run_id ORDER BY seq)
               + count(*) FILTER (WHERE status <> 'done') OVER (
                     PARTITION BY run_id ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS island
          FROM hal9mig.batches
         WHERE kind = 'copy' AND run_id = ANY(%(ids)s::bigint[]) AND (status = 'done' OR cursor_key IS NOT NULL)) done
 GROUP BY run_id, island

-- name: restored_covers
SELECT filter, after_key, upto_key FROM hal9mig.restored_covers WHERE category = %(category)s

-- name: undo
-- What these runs have copied is there no more, but for those whose work the checkpoint holds whole; that of one
-- which an earlier restore had taken back is there again. Of another ledger a run may have the same number.
UPDATE hal9mig.runs
   SET undone_at = CASE WHEN (id, created_at) IN (SELECT * FROM unnest(%(ids)s::bigint[], %(moments)s::timestamptz[]))
                        THEN NULL ELSE coalesce(undone_at, clock_timestamp()) END
 WHERE kind = 'migrate' AND category = %(category)s

-- name: whole
-- Migrations of a category whose work stands whole.
SELECT id, created_at::text AS created_at FROM hal9mig.runs
 WHERE kind = 'migrate' AND category = %(category)s AND status = 'succeeded' AND undone_at IS NULL ORDER BY id

-- name: clear_covers
DELETE FROM hal9mig.restored_covers WHERE category = %(category)s

-- name: add_cover
INSERT INTO hal9mig.restored_covers (category, filter, after_key, upto_key)
VALUES (%(category)s, %(filter)s, %(after)s, %(upto)s)

-- name: unplan
UPDATE hal9mig.runs SET planned = false WHERE id = %(id)s

-- name: precedent
-- Of the newest that were held to no budget the largest, over its whole length: a small one's time is mostly its
-- beginning and end.
SELECT id, rows, seconds
  FROM (SELECT r.id, sum(b.planned_records) AS rows,
               greatest(extract(epoch FROM r.finished_at - r.started_at), 0.001)::float8 AS seconds,
               coalesce((r.options->>'verify')::boolean, false) AS verify
          FROM hal9mig.runs r JOIN hal9mig.batches b ON b.run_id = r.id
         WHERE r.kind = %(kind)s AND r.status = 'succeeded' AND b.kind IN ('save', 'load')
           AND coalesce(r.options->'tuning'->>'rate-limit', 'off') = 'off'
         GROUP BY r.id HAVING sum(b.planned_records) > 0 ORDER BY r.id DESC LIMIT 20) late
 ORDER BY verify = %(verify)s DESC, rows DESC, id DESC LIMIT 1

-- name: current
-- The newest migration of each category whose work still stands.
SELECT category, max(created_at) AS created_at FROM hal9mig.runs
 WHERE kind = 'migrate' AND undone_at IS NULL GROUP BY category
