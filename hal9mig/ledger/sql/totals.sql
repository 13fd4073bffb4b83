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
SELECT (p.rounds + r.rounds)::bigint AS rounds, (p.failed + r.failed)::bigint AS failed,
       (p.compared + r.compared)::bigint AS compared, (p.found + r.found)::bigint AS found,
       (p.repaired + r.repaired)::bigint AS repaired
  FROM hal9mig.pruned_rounds p,
       (SELECT count(*) AS rounds, count(error) AS failed, coalesce(sum(compared), 0) AS compared,
               coalesce(sum(found), 0) AS found, coalesce(sum(repaired), 0) AS repaired FROM hal9mig.rounds) r
