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

-- name: exclude_copy
-- Waits for the copying transactions in flight: what they have written can then be seen.
SELECT pg_advisory_xact_lock(hashtextextended('hal9mig copy ' || %(category)s, 0))

-- name: lock_keys
-- In one order, so that two appliers cannot wait for each other in a circle.
SELECT pg_advisory_xact_lock(hashtextextended(k, 0))
  FROM unnest(%(names)s::text[]) WITH ORDINALITY AS u (k, n) ORDER BY n
