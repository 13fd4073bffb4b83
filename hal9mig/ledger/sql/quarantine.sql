-- name: hold
INSERT INTO hal9mig.quarantine (category, key, error, payload, transform_version, run_id, origin)
VALUES (%(category)s, %(key)s, %(error)s, %(payload)s, %(transform_version)s, %(run_id)s, %(origin)s)
ON CONFLICT (category, key) WHERE status = 'held'
DO UPDATE SET error = excluded.error, payload = excluded.payload, transform_version = excluded.transform_version,
              run_id = excluded.run_id, origin = excluded.origin, attempts = quarantine.attempts + 1, changed_at = clock_timestamp()
RETURNING id

-- name: select
SELECT id, category, key, status, error, payload, transform_version, run_id, attempts, found_at, changed_at, origin
  FROM hal9mig.quarantine
 WHERE (%(id)s::bigint IS NULL OR id = %(id)s) AND (%(category)s::text IS NULL OR category = %(category)s)
   AND (%(status)s::text IS NULL OR status = %(status)s)
 ORDER BY id LIMIT %(limit)s

-- name: held_keys
SELECT key FROM hal9mig.quarantine WHERE category = %(category)s AND status = 'held'

-- name: settle
UPDATE hal9mig.quarantine SET status = %(status)s, changed_at = clock_timestamp()
 WHERE id = %(id)s AND status = 'held' RETURNING id

-- name: release_keys
-- Records that have since been written: nothing is held back any more.
UPDATE hal9mig.quarantine SET status = 'released', changed_at = clock_timestamp()
 WHERE category = %(category)s AND status = 'held' AND key = ANY(%(keys)s::jsonb[])

-- name: counts
SELECT category, count(*) AS held FROM hal9mig.quarantine WHERE status = 'held' GROUP BY category
