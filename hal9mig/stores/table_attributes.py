"""What a table has beside its rows, indexes and constraints, as statements that give it to the one in its place."""

from __future__ import annotations

from hal9mig.stores.connection import Cursor
from hal9mig.stores.relation import Relation, spelled_out

# Each query gives statements; the order is the order in which they are executed. Privileges come whole,
# the owner's own too where one is not as usual, because the account's default privileges may have given some.
_GRANTEE = "CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END"
_OPTION = "CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END"
_OWNED = """
SELECT s.oid, s.oid::regclass::text AS name, d.deptype = 'i' AS identity, quote_ident(attname) AS attname,
       CASE attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END AS kind, s.relacl, s.relowner
  FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
   AND d.deptype IN ('a', 'i') AND d.refobjid = %(live)s::regclass
"""
_QUERIES = (
    "SELECT format('ALTER TABLE %%s OWNER TO %%I', %(live)s, pg_get_userbyid(relowner)) FROM pg_class "
    "WHERE oid = %(live)s::regclass",
    f"""
WITH old AS (SELECT * FROM pg_class WHERE oid = %(live)s::regclass),
     new AS (SELECT * FROM pg_class WHERE oid = %(shadow)s::regclass)
SELECT format('REVOKE ALL ON %%s FROM %%s', %(live)s, {_GRANTEE})
  FROM (SELECT grantee FROM new, aclexplode(relacl) WHERE grantee <> new.relowner
        UNION SELECT old.relowner FROM old, new WHERE coalesce(old.relacl, new.relacl) IS NOT NULL) g
UNION ALL
SELECT format('GRANT %%s ON %%s TO %%s%%s', privilege_type, %(live)s, {_GRANTEE}, {_OPTION})
  FROM old, new, aclexplode(coalesce(old.relacl, acldefault('r', old.relowner)))
 WHERE coalesce(old.relacl, new.relacl) IS NOT NULL
UNION ALL
SELECT format('GRANT %%s (%%I) ON %%s TO %%s%%s', privilege_type, attname, %(live)s, {_GRANTEE}, {_OPTION})
  FROM pg_attribute, aclexplode(attacl) WHERE attrelid = %(live)s::regclass AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT format('GRANT %%s ON SEQUENCE %%s TO %%s%%s', privilege_type, name, {_GRANTEE}, {_OPTION})
  FROM ({_OWNED}) s, aclexplode(relacl) WHERE identity AND grantee <> s.relowner
""",
    f"SELECT format('ALTER SEQUENCE %%s OWNED BY %%s.%%s', name, %(live)s, attname) FROM ({_OWNED}) s "
    "WHERE NOT identity",
    """
SELECT format('ALTER TABLE %%s REPLICA IDENTITY %%s', %(live)s, CASE relreplident WHEN 'f' THEN 'FULL'
       WHEN 'n' THEN 'NOTHING' ELSE 'USING INDEX ' || (SELECT quote_ident(x.relname) FROM pg_index i
       JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident) END)
  FROM pg_class c WHERE oid = %(live)s::regclass AND relreplident <> 'd'
   AND (relreplident <> 'i' OR EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisreplident))
UNION ALL SELECT format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY', %(live)s) FROM pg_class
 WHERE oid = %(live)s::regclass AND relrowsecurity
UNION ALL SELECT format('ALTER TABLE %%s FORCE ROW LEVEL SECURITY', %(live)s) FROM pg_class
 WHERE oid = %(live)s::regclass AND relforcerowsecurity
""",
    """
SELECT format('CREATE POLICY %%I ON %%s AS %%s FOR %%s TO %%s', polname, %(live)s,
       CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
       (SELECT word FROM (VALUES ('r', 'SELECT'), ('a', 'INSERT'), ('w', 'UPDATE'), ('d', 'DELETE'), ('*', 'ALL'))
               AS w (letter, word) WHERE letter = polcmd::text),
       (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ')
          FROM unnest(polroles) role))
       || coalesce(' USING (' || pg_get_expr(polqual, polrelid) || ')', '')
       || coalesce(' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')', '')
  FROM pg_policy WHERE polrelid = %(live)s::regclass
""",
    "SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = %(live)s::regclass ORDER BY rulename",
    "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = %(live)s::regclass AND NOT tgisinternal "
    "ORDER BY tgname",
    """
SELECT format('ALTER TABLE %%s %%s %%s %%I', %(live)s, state, what, name)
  FROM (SELECT 'TRIGGER' AS what, tgname AS name, tgenabled AS enabled FROM pg_trigger
         WHERE tgrelid = %(live)s::regclass AND NOT tgisinternal
        UNION ALL SELECT 'RULE', rulename, ev_enabled FROM pg_rewrite WHERE ev_class = %(live)s::regclass) e
  JOIN (VALUES ('D', 'DISABLE'), ('R', 'ENABLE REPLICA'), ('A', 'ENABLE ALWAYS')) s (letter, state)
    ON letter = enabled::text
""",
    """
SELECT unnest(ARRAY[format('ALTER STATISTICS %%s.%%I SET SCHEMA %%s', %(schema)s, stxname,
                           stxnamespace::regnamespace),
                    format('ALTER STATISTICS %%s.%%I OWNER TO %%I', stxnamespace::regnamespace, stxname,
                           pg_get_userbyid(stxowner)),
                    CASE WHEN stxstattarget >= 0 THEN format('ALTER STATISTICS %%s.%%I SET STATISTICS %%s',
                         stxnamespace::regnamespace, stxname, stxstattarget) END])
  FROM pg_statistic_ext WHERE stxrelid = %(live)s::regclass
""",
    """
SELECT format('COMMENT ON %%s IS %%L', what, description)
  FROM (SELECT 'pg_class'::regclass AS classid, %(live)s::regclass::oid AS objid, 'TABLE ' || %(live)s AS what
        UNION ALL SELECT 'pg_class'::regclass, indexrelid, 'INDEX ' || indexrelid::regclass FROM pg_index
         WHERE indrelid = %(live)s::regclass
        UNION ALL SELECT 'pg_constraint'::regclass, oid, format('CONSTRAINT %%I ON %%s', conname, %(live)s)
          FROM pg_constraint WHERE conrelid = %(live)s::regclass
        UNION ALL SELECT 'pg_trigger'::regclass, oid, format('TRIGGER %%I ON %%s', tgname, %(live)s)
          FROM pg_trigger WHERE tgrelid = %(live)s::regclass AND NOT tgisinternal
        UNION ALL SELECT 'pg_rewrite'::regclass, oid, format('RULE %%I ON %%s', rulename, %(live)s)
          FROM pg_rewrite WHERE ev_class = %(live)s::regclass
        UNION ALL SELECT 'pg_policy'::regclass, oid, format('POLICY %%I ON %%s', polname, %(live)s)
          FROM pg_policy WHERE polrelid = %(live)s::regclass
        UNION ALL SELECT 'pg_statistic_ext'::regclass, oid,
               format('STATISTICS %%s.%%I', stxnamespace::regnamespace, stxname)
          FROM pg_statistic_ext WHERE stxrelid = %(live)s::regclass
  """
    f"UNION ALL SELECT 'pg_class'::regclass, oid, 'SEQUENCE ' || name FROM ({_OWNED}) s WHERE identity) o "
    "JOIN pg_description ON objoid = objid AND classoid = classid WHERE objsubid = 0",
)


def carried(cursor: Cursor, one: Relation, *, shadow: str, schema: str) -> list[str]:
    """Return the statements that give the table in a live one's place what that one has now.

    Args:
        shadow: the table that is to take its place, still in ``schema``.
    """
    values = {"live": one.qualified, "shadow": shadow, "schema": schema}
    with spelled_out(cursor):
        statements = _identities(cursor, values)
        for query in _QUERIES:
            cursor.execute(query, values)
            statements += [statement for (statement,) in cursor.fetchall() if statement is not None]
    return statements


def released(cursor: Cursor, one: Relation) -> list[str]:
    """Return the statements that keep a table's sequences from being dropped with it."""
    with spelled_out(cursor):
        cursor.execute(
            f"SELECT format('ALTER SEQUENCE %%s OWNED BY NONE', name) FROM ({_OWNED}) s WHERE NOT identity",
            {"live": one.qualified},
        )
        return [statement for (statement,) in cursor.fetchall()]


def _identities(cursor: Cursor, values: dict[str, str]) -> list[str]:
    """Return what makes the new table's identity columns, which go on from where the old ones stand."""
    statements = []
    cursor.execute(
        f"SELECT name, attname, kind, seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle FROM ({_OWNED}) s "
        "JOIN pg_sequence ON seqrelid = s.oid WHERE identity",
        values,
    )
    for name, column, kind, start, step, least, most, cache, cycle in cursor.fetchall():
        # To the value it has already: for the lock, so that nobody takes a number after it was read.
        cursor.execute(f"ALTER SEQUENCE {name} INCREMENT {step}")
        cursor.execute(f"SELECT last_value, is_called FROM {name}")
        last, called = cursor.fetchone() or (start, False)
        statements.append(
            f"ALTER TABLE {values['live']} ALTER COLUMN {column} ADD GENERATED {kind} AS IDENTITY "
            f"(SEQUENCE NAME {name} START {start} INCREMENT {step} MINVALUE {least} MAXVALUE {most} CACHE {cache}"
            f"{' CYCLE' if cycle else ''})"
        )
        statements.append(f"SELECT setval('{name}', {last}, {str(called).lower()})")
    return statements
