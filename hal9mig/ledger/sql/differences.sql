-- name: clear
DELETE FROM hal9mig.differences WHERE run_id = %(run_id)s AND seq = %(seq)s

-- name: add
INSERT INTO hal9mig.differences (run_id, seq, key, kind, fields)
VALUES (%(run_id)s, %(seq)s, %(key)s, %(kind)s, %(fields)s)

-- name: select
SELECT seq, key, kind, fields FROM hal9mig.differences
 WHERE run_id = %(run_id)s ORDER BY seq, key LIMIT %(limit)s
