"""Integrity: constraints hold and are validated, references lead somewhere, and digests of ranges agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hal9mig import model
from hal9mig.categories import identifiers
from hal9mig.checks.continuity import named
from hal9mig.checks.subject import Subject
from hal9mig.engine.compare import orphans
from hal9mig.engine.compare.judge import Judgement
from hal9mig.engine.reconcile import sweep
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.stores import category_check, projection
from hal9mig.stores.connection import Connection

#: Keys that differ and are kept by name; they are all counted.
_MOST_KEPT = 1000
_CONSTRAINTS = """
SELECT conname::text, contype::text, convalidated, pg_get_expr(conbin, conrelid)
  FROM pg_constraint WHERE conrelid = %(table)s::regclass
 UNION ALL
SELECT c.relname::text, 'index', i.indisvalid, NULL
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
 WHERE i.indrelid = %(table)s::regclass AND i.indisunique
 ORDER BY 1
"""
_NOT_NULL = """
SELECT attname::text FROM pg_attribute
 WHERE attrelid = %s::regclass AND attnum > 0 AND attnotnull AND NOT attisdropped ORDER BY attnum
"""
_REFERENCES = """
SELECT conname::text, confrelid::regclass::text,
       (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(conkey) WITH ORDINALITY k(at, n)
          JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.at),
       (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(confkey) WITH ORDINALITY k(at, n)
          JOIN pg_attribute a ON a.attrelid = confrelid AND a.attnum = k.at)
  FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f' ORDER BY 1
"""


def declared(subject: Subject) -> list[str]:
    """Return what the stores lack of what the category declares, as sentences."""
    with subject.flat, subject.hier:
        return category_check.problems(subject.category, subject.flat, subject.hier)


def check_constraints(subject: Subject) -> CheckOutcome:
    """Look whether every constraint is validated, and count in each table the rows that break one."""
    wrong = declared(subject)
    looked = rows = 0
    for connection, table in _tables(subject) if not wrong else ():
        with connection, connection.cursor() as cursor:
            cursor.execute(_CONSTRAINTS, {"table": table})
            found = cursor.fetchall()
            cursor.execute(_NOT_NULL, (table,))
            conditions = [(f"NOT NULL {name}", f"{identifiers.quoted(name)} IS NULL") for (name,) in cursor.fetchall()]
            conditions += [(name, f"NOT ({text})") for name, kind, _, text in found if kind == "c"]
            wrong += [f"{table}: {name} is not validated" for name, _, validated, _ in found if not validated]
            looked += len(found) + len(conditions)
            # Percent signs of a constraint are no parameters: there are none.
            counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for _, condition in conditions)
            cursor.execute(f"SELECT count(*){', ' + counts if counts else ''} FROM {table}")
            total, *broken = cursor.fetchone() or (0,)
            rows += total
        wrong += [
            f"{table}: {count:,} rows break {name}"
            for (name, _), count in zip(conditions, broken, strict=True) if count
        ]  # fmt: skip
    if not wrong:
        wrong += _twice(subject)
    figures = {"constraints": looked, "rows": rows, "broken": len(wrong)}
    if wrong:
        return subject.outcome(
            "integrity:constraints", CheckVerdict.FAILED, "; ".join(wrong), figures, "hal9-migrate db check"
        )
    if not rows:
        return _empty(subject, "integrity:constraints")
    return subject.outcome(
        "integrity:constraints", CheckVerdict.PASSED,
        f"{looked:,} constraints are validated and hold in {rows:,} rows of both stores", figures,
    )  # fmt: skip


def check_references(subject: Subject) -> CheckOutcome:
    """Count rows that point at nothing: by a foreign key, or as parts of a record that no root table holds."""
    wrong: list[str] = []
    looked = rows = 0
    for connection, table in _tables(subject):
        with connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            rows += (cursor.fetchone() or (0,))[0]
            cursor.execute(_REFERENCES, (table,))
            for name, parent, columns, referred in cursor.fetchall():
                looked += 1
                given = " AND ".join(f"{column} IS NOT NULL" for column in identifiers.each(columns, "c"))
                same = identifiers.same("p", referred, "c", columns)
                cursor.execute(
                    f"SELECT count(*) FROM {table} c WHERE {given} AND NOT EXISTS (SELECT FROM {parent} p WHERE {same})"
                )
                count = (cursor.fetchone() or (0,))[0]
                if count:
                    wrong.append(f"{table}: {count:,} rows point at no row of {parent} ({name})")
    rootless = orphans.query(subject.category, projection.Bounds())
    if rootless is not None:
        looked += 1
        with subject.hier, subject.hier.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM ({rootless[0]}) o", rootless[1])
            count = (cursor.fetchone() or (0,))[0]
        if count:
            wrong.append(f"{count:,} records have parts in the hierarchical store and no row in its root table")
    figures = {"references": looked, "rows": rows, "broken": len(wrong)}
    if wrong:
        fix = f"hal9-migrate state diff --category {subject.category.slug}"
        return subject.outcome("integrity:references", CheckVerdict.FAILED, "; ".join(wrong), figures, fix)
    if not rows:
        return _empty(subject, "integrity:references")
    if not looked:
        why = "the category has neither foreign keys nor parts"
        return subject.outcome("integrity:references", CheckVerdict.SKIPPED, why, figures)
    return subject.outcome(
        "integrity:references", CheckVerdict.PASSED, f"{looked:,} kinds of reference lead somewhere from every row",
        figures,
    )  # fmt: skip


def check_digests(subject: Subject) -> CheckOutcome:
    """Compare the digests of every range of both stores, and have the judge look at what differs."""
    both = subject.sides()
    after: model.Key | None = None
    records = drifting = lagging = ranges = 0
    kept: list[model.Key] = []
    while True:
        looked = sweep.look(both, after)
        records, ranges = records + looked.records, ranges + 1
        judged = subject.judged(list(looked.suspects)).values()
        drifted = [one.key for one in judged if one.state is Judgement.DRIFTS]
        lagging += sum(one.state is Judgement.LAGS for one in judged)
        drifting += len(drifted)
        kept += drifted[: _MOST_KEPT - len(kept)]
        after = looked.upto
        if after is None:
            break
    migrated = _migrated(subject)
    both.require_same()
    figures = {
        "records": records, "ranges": ranges, "differing": drifting, "written_meanwhile": lagging,
        "keys": ["/".join(key) for key in kept[:100]],
    }  # fmt: skip
    if drifting:
        return subject.outcome(
            "integrity:digests", CheckVerdict.FAILED,
            f"{drifting:,} of {records:,} records differ: {named(kept)}",
            figures, f"hal9-migrate state validate --category {subject.category.slug} --fix-and-retry",
        )  # fmt: skip
    if not records:
        return _empty(subject, "integrity:digests")
    if not migrated:
        return subject.outcome(
            "integrity:digests", CheckVerdict.SKIPPED, f"none of {records:,} records is migrated yet", figures
        )
    told = f"; {lagging:,} were written meanwhile" if lagging else ""
    return subject.outcome(
        "integrity:digests", CheckVerdict.PASSED,
        f"the digests of {ranges:,} ranges agree, {records:,} records in all{told}", figures,
    )  # fmt: skip


def _migrated(subject: Subject) -> bool:
    """Whether the hierarchical store has anything of the category."""
    with subject.hier, subject.hier.cursor() as cursor:
        for root in subject.category.roots:
            cursor.execute(f"SELECT EXISTS (SELECT FROM {root.qualified})")
            if (cursor.fetchone() or (False,))[0]:
                return True
    return False


def _tables(subject: Subject) -> Iterator[tuple[Connection, str]]:
    yield subject.flat, subject.category.source.qualified
    for target in subject.category.targets:
        yield subject.hier, target.qualified


def _twice(subject: Subject) -> Sequence[str]:
    """Count keys that two root tables hold, which no index can forbid."""
    roots = subject.category.roots
    wrong = []
    for at, left in enumerate(roots):
        for right in roots[at + 1 :]:
            same = identifiers.same("l", left.owner, "r", right.owner)
            with subject.hier, subject.hier.cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM {left.qualified} l JOIN {right.qualified} r ON {same}")
                count = (cursor.fetchone() or (0,))[0]
            if count:
                wrong.append(f"{count:,} keys are in both {left.qualified} and {right.qualified}")
    return wrong


def _empty(subject: Subject, name: str) -> CheckOutcome:
    return subject.outcome(name, CheckVerdict.SKIPPED, "neither store holds a record", {})
