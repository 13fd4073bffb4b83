-- name: clear
DELETE FROM hal9mig.differences WHERE run_id = %(run_id)s AND seq = %(seq)s

-- name: add
-- Many at once, as one JSON document.
INSERT INTO hal9mig.differences (run_id, seq, key, kind, fields)
SELECT %(run_id)s, %(seq)s, d.key, d.kind, d.fields
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS d(key jsonb, kind text, fields jsonb)

-- name: select
-- What an operator has to look into first comes first.
SELECT d.seq, d.key, d.kind, d.fields FROM hal9mig.differences d
 WHERE d.run_id = %(run_id)s
 ORDER BY array_position(ARRAY['mismatch', 'missing', 'extra', 'quarantined'], d.kind), d.seq, d.key
 LIMIT %(limit)s

-- name: counts
SELECT d.kind, count(*) AS listed FROM hal9mig.differences d WHERE d.run_id = %(run_id)s GROUP BY d.kind

-- name: partial
-- What an earlier attempt of a batch has found up to the batch's cursor.
SELECT b.result FROM hal9mig.batches b WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s

-- name: ranges
-- A verify run's batches in order, with what each has found; text comparison of keys is the reader's.
SELECT b.seq, b.status, b.after_key, b.upto_key, b.result
  FROM hal9mig.batches b WHERE b.run_id = %(run_id)s AND b.kind = 'verify' ORDER BY b.seq
