-- name: change
INSERT INTO hal9mig.tuning (name, value, changed_by) VALUES (%(name)s, %(value)s, %(actor)s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_by = excluded.changed_by,
                                 changed_at = clock_timestamp()

-- name: stored
SELECT name, value, changed_by, changed_at FROM hal9mig.tuning
