-- name: add
INSERT INTO hal9mig.check_results (command, category, name, verdict, detail, next_command, measured, actor)
VALUES (%(command)s, %(category)s, %(name)s, %(verdict)s, %(detail)s, %(next_command)s, %(measured)s, %(actor)s)
RETURNING id

-- name: newest
-- Of each check its newest result.
SELECT DISTINCT ON (category, name)
       id, at, command, category, name, verdict, detail, next_command, measured, actor
  FROM hal9mig.check_results
 WHERE %(categories)s::text[] IS NULL OR category = ANY(%(categories)s::text[])
 ORDER BY category, name, id DESC
