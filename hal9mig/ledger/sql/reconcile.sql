-- name: lock_round
SELECT pg_try_advisory_xact_lock(hashtextextended('hal9mig round', 0)) AS mine

-- name: due
SELECT NOT EXISTS (SELECT FROM hal9mig.rounds WHERE began > clock_timestamp() - %(seconds)s * interval '1 second')
       AS due

-- name: begin_round
INSERT INTO hal9mig.rounds DEFAULT VALUES RETURNING id

-- name: end_round
UPDATE hal9mig.rounds
   SET ended = clock_timestamp(), applied = %(applied)s, compared = %(compared)s, found = %(found)s,
       repaired = %(repaired)s, lag_records = %(lag_records)s, lag_seconds = %(lag_seconds)s, seconds = %(seconds)s,
       error = %(error)s
 WHERE id = %(id)s

-- name: rounds
SELECT id, began, ended, applied, compared, found, repaired, lag_records, lag_seconds, seconds, error
  FROM hal9mig.rounds ORDER BY id DESC LIMIT %(limit)s

-- name: prune_rounds
WITH gone AS (
    DELETE FROM hal9mig.rounds WHERE began < clock_timestamp() - interval '30 days'
    RETURNING compared, found, repaired, error),
sums AS (
    SELECT count(*) AS rounds, count(error) AS failed, coalesce(sum(compared), 0) AS compared,
           coalesce(sum(found), 0) AS found, coalesce(sum(repaired), 0) AS repaired
      FROM gone)
UPDATE hal9mig.pruned_rounds p
   SET rounds = p.rounds + s.rounds, failed = p.failed + s.failed, compared = p.compared + s.compared,
       found = p.found + s.found, repaired = p.repaired + s.repaired
  FROM sums s WHERE s.rounds > 0

-- name: sweeps
SELECT category, position, pass AS number, pass_began AS began, records, differing, clean_from, clean_until
  FROM hal9mig.sweeps

-- name: add_sweep
-- One that is new begins where the others are, or they would wait for it to catch up.
INSERT INTO hal9mig.sweeps (category, pass) SELECT %(category)s, coalesce(min(pass), 1) FROM hal9mig.sweeps
ON CONFLICT (category) DO NOTHING

-- name: begin_pass
UPDATE hal9mig.sweeps
   SET position = NULL, pass_began = clock_timestamp(), records = 0, differing = 0,
       clean_from = CASE WHEN %(distrust)s THEN NULL ELSE clean_from END,
       clean_until = CASE WHEN %(distrust)s THEN NULL ELSE clean_until END,
       distrusted_at = CASE WHEN %(distrust)s THEN clock_timestamp() ELSE distrusted_at END
 WHERE category = %(category)s

-- name: passed
-- A whole pass beside the rolling one found nothing; not one that began before something was written unseen.
UPDATE hal9mig.sweeps
   SET clean_from = greatest(clean_from, %(since)s), clean_until = clock_timestamp()
 WHERE category = %(category)s AND (distrusted_at IS NULL OR distrusted_at < %(since)s)

-- name: advance
UPDATE hal9mig.sweeps
   SET position = %(position)s, records = records + %(records)s, differing = differing + %(differing)s
 WHERE category = %(category)s

-- name: add_differing
UPDATE hal9mig.sweeps SET differing = differing + %(differing)s WHERE category = %(category)s

-- name: end_pass
UPDATE hal9mig.sweeps
   SET position = NULL, pass = pass + 1,
       -- A whole pass beside it may have begun later, and been clean already.
       clean_from = CASE WHEN differing = 0 THEN greatest(clean_from, pass_began) ELSE clean_from END,
       clean_until = CASE WHEN differing = 0 THEN clock_timestamp() ELSE clean_until END
 WHERE category = %(category)s
RETURNING differing = 0 AS clean

-- name: note_drifts
-- Many at once, as one JSON document. A key has one open row: what is found again is noted in it.
INSERT INTO hal9mig.drifts (category, key, kind, cause, round, payload)
SELECT %(category)s, d.key, d.kind, d.cause, %(round)s, d.payload
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS d(key jsonb, kind text, cause text, payload text)
ON CONFLICT (category, key) WHERE repaired_at IS NULL
DO UPDATE SET kind = excluded.kind, cause = excluded.cause, payload = excluded.payload
RETURNING id, key, xmax = 0 AS new

-- name: close_drifts
UPDATE hal9mig.drifts SET repaired_at = clock_timestamp(), repair = %(repair)s
 WHERE category = %(category)s AND repaired_at IS NULL AND key = ANY(%(keys)s::jsonb[])
RETURNING key

-- name: leave_drifts
-- Why they were not repaired.
UPDATE hal9mig.drifts SET repair = %(repair)s
 WHERE category = %(category)s AND repaired_at IS NULL AND key = ANY(%(keys)s::jsonb[])

-- name: quarantine_drifts
UPDATE hal9mig.drifts SET repair = %(repair)s, cause = 'quarantine'
 WHERE category = %(category)s AND repaired_at IS NULL AND key = ANY(%(keys)s::jsonb[])

-- name: drifts
SELECT id, category, key, kind, cause, round, found_at, repaired_at, repair, payload
  FROM hal9mig.drifts
 WHERE (%(category)s::text IS NULL OR category = %(category)s) AND (NOT %(open)s OR repaired_at IS NULL)
 ORDER BY id DESC LIMIT %(limit)s

-- name: repairs
-- How often keys were repaired within the last hour.
SELECT key, count(*) AS times FROM hal9mig.drifts
 WHERE category = %(category)s AND key = ANY(%(keys)s::jsonb[])
   AND repaired_at > clock_timestamp() - %(seconds)s * interval '1 second' AND repair LIKE 'repaired%%'
 GROUP BY key

-- name: drift_counts
SELECT category, count(*) FILTER (WHERE repaired_at IS NULL) AS open,
       count(*) FILTER (WHERE repaired_at IS NOT NULL) AS closed
  FROM hal9mig.drifts GROUP BY category

-- name: marked_lately
SELECT key FROM hal9mig.marks
 WHERE category = %(category)s AND at > clock_timestamp() - %(seconds)s * interval '1 second'
 ORDER BY at DESC LIMIT %(limit)s

-- name: silent
-- Workers that have not been heard of, and have not said that they end.
SELECT name FROM hal9mig.workers
 WHERE seen_at < clock_timestamp() - %(seconds)s * interval '1 second'
   AND seen_at > clock_timestamp() - interval '1 hour'
 ORDER BY name

-- name: raise
INSERT INTO hal9mig.alarms (name, subject, message, detail)
VALUES (%(name)s, %(subject)s, %(message)s, %(detail)s)
ON CONFLICT (name, subject) WHERE cleared_at IS NULL DO NOTHING
RETURNING id

-- name: clear
UPDATE hal9mig.alarms SET cleared_at = clock_timestamp()
 WHERE name = %(name)s AND cleared_at IS NULL AND (%(subject)s::text IS NULL OR subject = %(subject)s)
RETURNING id, subject, message

-- name: alarms
SELECT id, name, subject, message, detail, raised_at, cleared_at, attempts, delivered_at FROM hal9mig.alarms
 WHERE NOT %(open)s OR cleared_at IS NULL ORDER BY id DESC LIMIT %(limit)s

-- name: claim_alarm
-- Counted before it is sent: who dies on the way leaves it to the next, later each time.
UPDATE hal9mig.alarms SET attempts = attempts + 1,
       not_before = clock_timestamp() + least(%(delay)s * power(2, least(attempts, 12)), 3600) * interval '1 second'
 WHERE id = (SELECT id FROM hal9mig.alarms
              WHERE delivered_at IS NULL AND not_before <= clock_timestamp()
                AND raised_at > clock_timestamp() - interval '1 day'
              ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, name, subject, message, detail, raised_at, cleared_at, attempts, delivered_at

-- name: delivered
UPDATE hal9mig.alarms SET delivered_at = clock_timestamp() WHERE id = %(id)s
