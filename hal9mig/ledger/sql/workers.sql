-- name: beat
INSERT INTO hal9mig.workers (name, host, pid, slots, draining, memory_bytes, cpu_percent)
VALUES (%(name)s, %(host)s, %(pid)s, %(slots)s, %(draining)s, %(memory_bytes)s, %(cpu_percent)s)
ON CONFLICT (name) DO UPDATE
   SET host = excluded.host, pid = excluded.pid, slots = excluded.slots, draining = excluded.draining,
       memory_bytes = excluded.memory_bytes, cpu_percent = excluded.cpu_percent, seen_at = clock_timestamp(),
       started_at = CASE WHEN workers.pid = excluded.pid THEN workers.started_at ELSE clock_timestamp() END

-- name: forget
DELETE FROM hal9mig.workers WHERE seen_at < clock_timestamp() - interval '1 day'

-- name: leave
DELETE FROM hal9mig.workers WHERE name = %(name)s AND pid = %(pid)s

-- name: alive
SELECT name, host, pid, slots, started_at, seen_at, draining, memory_bytes, cpu_percent
  FROM hal9mig.workers WHERE seen_at > clock_timestamp() - %(seconds)s * interval '1 second' ORDER BY name

-- name: last_seen
-- By one clock: that of the server which wrote the times it is compared with.
SELECT clock_timestamp() AS now, max(seen_at) AS seen FROM hal9mig.workers
