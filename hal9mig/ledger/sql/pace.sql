-- name: read
SELECT quiet_write, quiet_read, quiet_active, quiet_waiting, write, read, active, waiting, share, reason,
       extract(epoch FROM clock_timestamp() - looked_at) AS age,
       extract(epoch FROM clock_timestamp() - quiet_at) AS quiet_age
  FROM hal9mig.pace

-- name: turn
-- Whoever comes first after the time is up looks; one that dies with it keeps nobody waiting.
UPDATE hal9mig.pace p SET turn_at = clock_timestamp()
 WHERE p.turn_at < clock_timestamp() - %(every)s * interval '1 second'
   AND EXISTS (SELECT FROM hal9mig.runs WHERE status IN ('planning', 'running') AND kind = ANY(%(kinds)s))
RETURNING NOT EXISTS (SELECT FROM hal9mig.batches WHERE status = 'leased' AND kind = ANY(%(batches)s)) AS quiet,
          (SELECT r.category FROM hal9mig.runs r WHERE r.status IN ('planning', 'running') AND r.kind = ANY(%(kinds)s)
            ORDER BY r.id LIMIT 1) AS category,
          (SELECT array_agg(coalesce(r.options->'tuning'->>'max-impact', '')) FROM hal9mig.runs r
            WHERE r.status IN ('planning', 'running') AND r.kind = ANY(%(kinds)s)) AS own

-- name: note
UPDATE hal9mig.pace
   SET looked_at = clock_timestamp(), quiet_at = CASE WHEN %(quiet)s THEN clock_timestamp() ELSE quiet_at END,
       quiet_write = %(quiet_write)s, quiet_read = %(quiet_read)s, quiet_active = %(quiet_active)s,
       quiet_waiting = %(quiet_waiting)s, write = %(write)s, read = %(read)s, active = %(active)s,
       waiting = %(waiting)s, share = %(share)s, reason = %(reason)s

-- name: refuse
-- Nothing could be told: the values grow old, and what they are needed for stands still.
UPDATE hal9mig.pace SET share = 0, reason = %(reason)s
