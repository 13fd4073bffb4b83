-- name: log_event
INSERT INTO hal9mig.events (actor, action, run_id, detail) VALUES (%(actor)s, %(action)s, %(run_id)s, %(detail)s)

-- name: events
SELECT id, at, actor, action, run_id, detail FROM hal9mig.events
 WHERE (%(run_id)s::bigint IS NULL OR run_id = %(run_id)s) ORDER BY id DESC LIMIT %(limit)s

-- name: lock_chain
SELECT pg_advisory_xact_lock(hashtextextended('hal9mig audit chain', 0))

-- name: chain_end
SELECT place, seal FROM hal9mig.events WHERE place IS NOT NULL ORDER BY place DESC LIMIT 1

-- name: open_events
SELECT id, content FROM (
    SELECT id, jsonb_build_array(id, extract(epoch FROM at)::text, actor, action, run_id, detail)::text AS content
      FROM hal9mig.events WHERE place IS NULL ORDER BY id LIMIT %(limit)s) e

-- name: seal_event
UPDATE hal9mig.events SET place = %(place)s, seal = %(seal)s WHERE id = %(id)s AND place IS NULL

-- name: chain
SELECT id, place, seal,
       jsonb_build_array(id, extract(epoch FROM at)::text, actor, action, run_id, detail)::text AS content
  FROM hal9mig.events WHERE place > %(after)s ORDER BY place LIMIT %(limit)s

-- name: open_count
SELECT count(*) FROM hal9mig.events WHERE place IS NULL
