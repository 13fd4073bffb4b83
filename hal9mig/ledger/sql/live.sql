-- name: mark
INSERT INTO hal9mig.marks (category, key)
SELECT %(category)s, ARRAY(SELECT jsonb_array_elements_text(k)) FROM jsonb_array_elements(%(keys)s::jsonb) AS k
ON CONFLICT (category, key) DO UPDATE SET at = clock_timestamp()

-- name: marked_since
SELECT key FROM hal9mig.marks WHERE category = %(category)s AND at >= %(since)s

-- name: prune_marks
-- A mark only matters to copies that read the source before it was made.
DELETE FROM hal9mig.marks
 WHERE at < clock_timestamp() - interval '1 minute'
   AND at < coalesce((SELECT min(claimed_at) FROM hal9mig.batches WHERE status = 'leased' AND kind = 'copy'),
                     clock_timestamp())

-- name: share_copy
-- Held by each copying transaction from before it looks for marks until it commits.
SELECT pg_advisory_xact_lock_shared(hashtextextended('hal9mig copy ' || %(category)s, 0))

-- name: wait_for_copies
-- Waits for the copying transactions in flight: what they have written can then be seen.
SELECT pg_advisory_xact_lock(hashtextextended('hal9mig copy ' || %(category)s, 0))

-- name: lock_keys
-- In one order, so that two appliers cannot wait for each other in a circle.
SELECT pg_advisory_xact_lock(hashtextextended(k, 0))
  FROM unnest(%(names)s::text[]) WITH ORDINALITY AS u (k, n) ORDER BY n

-- name: lane
SELECT pg_try_advisory_xact_lock(hashtextextended('hal9mig lane ' || %(lane)s, 0)) AS mine

-- name: free_lanes
-- Only looked at: taking a lane to see that it is free could turn its follower away.
SELECT lane
  FROM (SELECT n AS lane, hashtextextended('hal9mig lane ' || n, 0) AS lock FROM generate_series(0, %(lanes)s - 1) n) l
 WHERE lock NOT IN (
    SELECT classid::bigint << 32 | objid::bigint FROM pg_locks
     WHERE locktype = 'advisory' AND objsubid = 1 AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
 ORDER BY lane

-- name: mode
SELECT mode, epoch, target, step, actor, since, attested FROM hal9mig.mode

-- name: lock_switch
-- Two operators at once: the second one waits here, and then finds what the first has done.
SELECT pg_advisory_xact_lock(hashtextextended('hal9mig switch', 0))

-- name: set_mode
UPDATE hal9mig.mode
   SET mode = %(mode)s, epoch = %(epoch)s, target = %(target)s, step = %(step)s, actor = %(actor)s,
       since = CASE WHEN mode <> %(mode)s THEN clock_timestamp() ELSE since END,
       -- Where a restore asked for another mode, this is it: the gate and the way back lead nowhere else.
       standstill = CASE WHEN mode <> %(mode)s THEN '' ELSE standstill END,
       attested = coalesce(%(attested)s::jsonb, attested)

-- name: certify
INSERT INTO hal9mig.certificates (actor, document) VALUES (%(actor)s, %(document)s) RETURNING id

-- name: certificates
SELECT id, at, actor, document FROM hal9mig.certificates ORDER BY id DESC LIMIT %(limit)s

-- name: open_drifts
-- What is in quarantine is counted there.
SELECT count(*) FROM hal9mig.drifts WHERE repaired_at IS NULL AND cause <> 'quarantine'

-- name: clean_pass
-- A pass over a category that found nothing, and the last moment at which its migration did something.
SELECT (SELECT clean_from FROM hal9mig.sweeps WHERE category = %(category)s) AS clean_from,
       greatest((SELECT since FROM hal9mig.mode),
                (SELECT max(finished_at) FROM hal9mig.runs
                  WHERE kind = 'migrate' AND category = %(category)s AND started_at IS NOT NULL),
                (SELECT max(found_at) FROM hal9mig.drifts WHERE category = %(category)s)) AS last_change
