-- name: work
-- What all runs have done since the ledger was made, by kind and category.
SELECT r.kind, r.category, coalesce(sum(b.records), 0)::bigint AS records,
       coalesce(sum(b.quarantined), 0)::bigint AS quarantined, coalesce(sum(b.bytes), 0)::bigint AS bytes,
       coalesce(sum(b.busy_seconds), 0)::float8 AS busy_seconds
  FROM hal9mig.runs r JOIN hal9mig.batches b ON b.run_id = r.id AND b.kind <> 'plan'
 GROUP BY r.kind, r.category ORDER BY r.kind, r.category

-- name: ended
SELECT kind, status, count(*) AS runs FROM hal9mig.runs
 WHERE status IN ('succeeded', 'failed', 'cancelled') GROUP BY kind, status ORDER BY kind, status

-- name: reconciled
SELECT count(*) AS rounds, count(*) FILTER (WHERE error IS NOT NULL) AS failed,
       coalesce(sum(compared), 0)::bigint AS compared, coalesce(sum(found), 0)::bigint AS found,
       coalesce(sum(repaired), 0)::bigint AS repaired
  FROM hal9mig.rounds
