-- name: log_event
INSERT INTO hal9mig.events (actor, action, run_id, detail) VALUES (%(actor)s, %(action)s, %(run_id)s, %(detail)s)

-- name: events
SELECT id, at, actor, action, run_id, detail FROM hal9mig.events
 WHERE (%(run_id)s::bigint IS NULL OR run_id = %(run_id)s) ORDER BY id DESC LIMIT %(limit)s
