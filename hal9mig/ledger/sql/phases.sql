-- name: add_validation
INSERT INTO hal9mig.validations (phase, epoch, passed, lines, actor)
VALUES (%(phase)s, %(epoch)s, %(passed)s, %(lines)s::jsonb, %(actor)s) RETURNING id

-- name: validations
SELECT id, at, phase, epoch, passed, lines, actor FROM hal9mig.validations
 WHERE phase = %(phase)s ORDER BY id DESC LIMIT %(limit)s

-- name: lock_phase
SELECT pg_advisory_xact_lock(hashtextextended('hal9mig phase ' || %(phase)s, 0))

-- name: complete
INSERT INTO hal9mig.completions (phase, validation, reason, actor)
VALUES (%(phase)s, %(validation)s, %(reason)s, %(actor)s) RETURNING id

-- name: completions
SELECT id, at, phase, validation, reason, actor FROM hal9mig.completions
 WHERE phase = %(phase)s ORDER BY id DESC LIMIT %(limit)s

-- name: attest
INSERT INTO hal9mig.attestations (phase, item, note, actor)
VALUES (%(phase)s, %(item)s, %(note)s, %(actor)s) RETURNING id

-- name: attestations
-- Of each item the newest.
SELECT DISTINCT ON (item) id, at, phase, item, note, actor FROM hal9mig.attestations
 WHERE phase = %(phase)s ORDER BY item, id DESC
