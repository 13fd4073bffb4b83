"""What hangs on a table's identity, and what the account may do: whether a table can be replaced, and how.

A table is replaced by another one of the same name, unless something hangs on its identity: then it is
filled anew, which its readers wait for. What belongs to a table alone (indexes, triggers, policies,
privileges, ...) goes over to the new one and does not hang on the old.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hal9mig import errors
from hal9mig.stores import foreign_keys
from hal9mig.stores.connection import Connection
from hal9mig.stores.relation import Relation, named, spelled_out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dependent:
    """Something that hangs on a table's identity, so that a swap of tables would break it.

    ``refill``: whether filling the live table anew in the swap's transaction keeps it.
    """

    relation: Relation
    what: str
    refill: bool


# Everything that depends on the table, its row type or the sequences of its identity columns, with the
# table it belongs to: nothing of the table's own, and no foreign keys. A view is named, not its rule.
_HANGING = f"""
WITH live AS (
     SELECT c.oid, c.reltype, t.typarray FROM pg_class c JOIN pg_type t ON t.oid = c.reltype
      WHERE c.oid = %(table)s::regclass
), owned AS (
     SELECT d.objid AS oid, d.deptype FROM live JOIN pg_depend d ON d.refobjid = live.oid
       JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
      WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
), hanging AS (
     SELECT DISTINCT d.classid, d.objid, d.objsubid, CASE d.classid
            WHEN 'pg_constraint'::regclass THEN (SELECT conrelid FROM pg_constraint k WHERE k.oid = d.objid)
            WHEN 'pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_attrdef a WHERE a.oid = d.objid)
            WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger t WHERE t.oid = d.objid)
            WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy p WHERE p.oid = d.objid)
            WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite r WHERE r.oid = d.objid)
            WHEN 'pg_statistic_ext'::regclass THEN (SELECT stxrelid FROM pg_statistic_ext s WHERE s.oid = d.objid)
            WHEN 'pg_class'::regclass THEN (
                 SELECT CASE WHEN c.oid = live.oid OR c.relkind = 't' OR c.oid IN (SELECT oid FROM owned) THEN live.oid
                             ELSE (SELECT indrelid FROM pg_index i WHERE i.indexrelid = c.oid) END
                   FROM pg_class c WHERE c.oid = d.objid)
            WHEN 'pg_type'::regclass THEN CASE WHEN d.objid IN (SELECT unnest(ARRAY[reltype, typarray]) FROM live)
                                          THEN (SELECT oid FROM live) END
            END AS belongs
       FROM live, pg_depend d
      WHERE (d.refclassid = 'pg_class'::regclass
             AND (d.refobjid = live.oid OR d.refobjid IN (SELECT oid FROM owned WHERE deptype = 'i')))
         OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (live.reltype, live.typarray))
)
SELECT CASE WHEN classid = 'pg_rewrite'::regclass AND (SELECT rulename FROM pg_rewrite WHERE oid = objid) = '_RETURN'
            THEN pg_describe_object('pg_class'::regclass, belongs, 0)
            ELSE pg_describe_object(classid, objid, objsubid) END,
       {named("belongs")}, true
  FROM hanging
 WHERE belongs IS DISTINCT FROM %(table)s::regclass::oid
   AND classid <> 'pg_publication_rel'::regclass
   AND NOT (classid = 'pg_constraint'::regclass AND (SELECT contype = 'f' FROM pg_constraint k WHERE k.oid = objid))
   AND NOT (classid = 'pg_trigger'::regclass AND (SELECT tgisinternal FROM pg_trigger t WHERE t.oid = objid))
   AND NOT (classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_inherits
            WHERE inhrelid = objid AND inhparent = %(table)s::regclass))
UNION ALL
SELECT DISTINCT 'publication ' || pubname, NULL, true FROM pg_publication_tables p
  JOIN pg_namespace n ON n.nspname = p.schemaname
  JOIN pg_class c ON c.relname = p.tablename AND c.relnamespace = n.oid
 WHERE c.oid = %(table)s::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree(%(table)s::regclass))
UNION ALL
SELECT CASE WHEN relkind = 'p' THEN 'its partitions' WHEN relispartition THEN 'the table that it is a partition of'
            ELSE 'the type that it is of' END, NULL, true
  FROM pg_class WHERE oid = %(table)s::regclass AND (relkind = 'p' OR relispartition OR reloftype <> 0)
UNION ALL
SELECT 'the table that it inherits from', NULL, true FROM pg_inherits, pg_class c
 WHERE inhrelid = %(table)s::regclass AND c.oid = inhrelid AND NOT relispartition
UNION ALL
-- Their rows are read as this one's, and could not be told apart when they are put back.
SELECT 'table ' || inhrelid::regclass || ', which inherits from it', NULL, false FROM pg_inherits
 WHERE inhparent = %(table)s::regclass AND (SELECT relkind <> 'p' FROM pg_class WHERE oid = inhparent)
UNION ALL
SELECT 'that it is no table', NULL, false FROM pg_class
 WHERE oid = %(table)s::regclass AND relkind NOT IN ('r', 'p')
UNION ALL
SELECT 'extension ' || extname, NULL, true FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
 WHERE d.classid = 'pg_class'::regclass AND d.objid = %(table)s::regclass AND d.deptype = 'e'
UNION ALL
SELECT 'security label of ' || provider, NULL, true FROM pg_seclabel
 WHERE classoid = 'pg_class'::regclass AND objoid = %(table)s::regclass
UNION ALL
SELECT format('that %%I may not create in schema %%I', role, nspname), NULL, true
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
       unnest(ARRAY[current_user::text, pg_get_userbyid(c.relowner)::text]) role
 WHERE c.oid = %(table)s::regclass AND NOT has_schema_privilege(role, n.oid, 'CREATE')
UNION ALL
SELECT format('that %%I may not give a table to %%I', current_user, pg_get_userbyid(relowner)), NULL, true
  FROM pg_class WHERE oid = %(table)s::regclass
   AND CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN NOT pg_has_role(relowner, 'SET') END
"""


def dependents(connection: Connection, relations: Sequence[Relation]) -> list[Dependent]:
    """Return what hangs on these tables' identity, apart from each other."""
    found: list[Dependent] = []
    between: list[tuple[Relation, str, str]] = []
    inside = {one.qualified: one for one in relations}
    with connection.cursor() as cursor:
        with spelled_out(cursor):
            for one in relations:
                cursor.execute(_HANGING, {"table": one.qualified})
                for what, belongs, refill in cursor.fetchall():
                    if belongs in inside:
                        between.append((one, what, belongs))
                    else:
                        found.append(Dependent(relation=one, what=what, refill=refill))
        for key in foreign_keys.keys(cursor, relations):
            if key.table not in inside and key.leads_to in inside:
                one = inside[key.leads_to]
                # Only rows that nobody refers to may go. That has to be seen, where going would take others along.
                primary = set(key.referenced) == {column.name for column in one.key}
                refill = key.passive or (key.readable and primary)
                found.append(Dependent(relation=one, what=f"foreign key {key.name} of {key.table}", refill=refill))
    # What belongs to a table that keeps its identity keeps hanging on the others.
    while True:
        kept = {one.relation.qualified for one in found}
        more = [
            Dependent(relation=one, what=what, refill=True)
            for one, what, belongs in between
            if belongs in kept and one.qualified not in kept
        ]
        if not more:
            return found
        found += more


def require_rights(connection: Connection, relations: Sequence[Relation]) -> None:
    """Raise where the account may not replace one of these tables, whichever way.

    Raises:
        errors.Refused: it is not a member of a table's owner, does not see every row, or may not make schemas.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE')",
        )
        user, database, creates = cursor.fetchone() or ("", "", False)
        if not creates:
            raise errors.Refused(
                f"{user} may not make a schema in database {database}, and shadow tables stand in one.",
                hint=f"GRANT CREATE ON DATABASE {database} TO {user}",
            )
        for one in relations:
            cursor.execute(
                "SELECT pg_get_userbyid(relowner), pg_has_role(relowner, 'USAGE'), row_security_active(oid) "
                "FROM pg_class WHERE oid = %s::regclass",
                (one.qualified,),
            )
            owner, member, filtered = cursor.fetchone() or ("", False, False)
            if not member:
                raise errors.Refused(
                    f"{user} may not replace {one.qualified}, which belongs to {owner}.",
                    hint=f"GRANT {owner} TO {user}",
                )
            if filtered:
                raise errors.Refused(
                    f"{user} does not see every row of {one.qualified}: its row-level security is forced.",
                    hint=f"ALTER ROLE {user} BYPASSRLS",
                )
