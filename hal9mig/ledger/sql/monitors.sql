-- name: open
INSERT INTO hal9mig.monitors (name, until_at, alert_on_drift, actor)
VALUES (%(name)s, clock_timestamp() + %(seconds)s * interval '1 second', %(alert_on_drift)s, %(actor)s)
ON CONFLICT (name) WHERE ended_at IS NULL DO NOTHING RETURNING id

-- name: select
SELECT id, name, began_at, until_at, ended_at, alert_on_drift, summary, actor, clock_timestamp() AS now
  FROM hal9mig.monitors
 WHERE (%(id)s::bigint IS NULL OR id = %(id)s) AND (%(name)s::text IS NULL OR name = %(name)s)
   AND (NOT %(open)s OR ended_at IS NULL)
 ORDER BY id DESC LIMIT %(limit)s

-- name: close
UPDATE hal9mig.monitors SET ended_at = clock_timestamp(), summary = %(summary)s
 WHERE id = %(id)s AND ended_at IS NULL RETURNING id

-- name: watched
-- The rounds of a window, and the longest times in which there was none: before the first, between two, after the last.
WITH r AS (
    SELECT began, coalesce(ended, began) AS ended, applied, compared, found, repaired, lag_seconds, error
      FROM hal9mig.rounds WHERE began >= %(since)s AND began <= %(until)s),
gaps AS (
    SELECT extract(epoch FROM began - lag(ended, 1, %(since)s) OVER (ORDER BY began)) AS gap
      FROM r WHERE error IS NULL
    UNION ALL
    SELECT extract(epoch FROM %(until)s - coalesce(max(ended) FILTER (WHERE error IS NULL), %(since)s)) FROM r)
SELECT (SELECT count(*) FROM r) AS rounds,
       (SELECT count(*) FROM r WHERE error IS NOT NULL) AS failed,
       (SELECT coalesce(sum(compared), 0) FROM r)::bigint AS compared,
       (SELECT coalesce(sum(found), 0) FROM r)::bigint AS found,
       (SELECT coalesce(sum(repaired), 0) FROM r)::bigint AS repaired,
       (SELECT coalesce(sum(applied), 0) FROM r)::bigint AS applied,
       (SELECT coalesce(max(lag_seconds), 0) FROM r)::float8 AS most_lag,
       (SELECT coalesce(sum(greatest(gap - %(patience)s, 0)), 0) FROM gaps)::float8 AS unwatched,
       (SELECT count(*) FROM hal9mig.drifts WHERE found_at >= %(since)s AND found_at <= %(until)s) AS drifts,
       (SELECT count(*) FROM hal9mig.quarantine
         WHERE status = 'held' AND found_at >= %(since)s AND found_at <= %(until)s) AS quarantined
