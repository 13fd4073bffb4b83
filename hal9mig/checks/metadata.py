"""Operational metadata: the audit entries' order and hash chain, recomputed from its first link in both stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hal9mig.categories import metadata
from hal9mig.checks.continuity import Promise
from hal9mig.checks.subject import Subject
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.model import StoreName
from hal9mig.stores.connection import Connection, Cursor

SLUG = metadata.CATEGORY.slug
PROMISE = Promise(nouns="metadata entries")
#: In the order of their ids, which is that of the chain.
_ENTRIES = {
    StoreName.FLAT: "SELECT id, payload::text FROM flat.operational_metadata WHERE type = 'audit' {} ORDER BY id",
    StoreName.HIERARCHICAL: "SELECT id, payload::text FROM hier.audit_events WHERE true {} ORDER BY id",
}
_FETCHED = 2000
#: Broken links whose cause is looked for.
_MOST_LOOKED_AT = 100


@dataclasses.dataclass(frozen=True)
class _Walk:
    chain: metadata.AuditChain
    last: int | None


def check_chain(subject: Subject) -> CheckOutcome:
    """Walk the chain in both stores and name its first broken link.

    An entry that has not arrived in the other store yet leaves a gap that is no broken link.
    """
    forward = subject.sides().forward
    ruling, other = list(StoreName) if forward else list(StoreName)[::-1]
    walks = {side: _walk(subject.store(side), side) for side in StoreName}
    source, target = walks[ruling], walks[other]
    own = set(source.chain.broken)
    inherited = [number for number in target.chain.broken if number in own]
    torn, waiting = _torn(subject, ruling, source, [one for one in target.chain.broken if one not in own])
    figures = {
        f"{side}_{name}": value
        for side, walk in walks.items()
        for name, value in (("entries", walk.chain.entries), ("broken", len(walk.chain.broken)))
    } | {"not_arrived": waiting, "first_broken": min([*own, *torn], default=None)}
    if not source.chain.entries:
        return subject.outcome("integrity:chain", CheckVerdict.SKIPPED, "there are no audit entries", figures)
    if source.chain.head == metadata.GENESIS:
        return subject.outcome("integrity:chain", CheckVerdict.SKIPPED, "audit entries carry no hashes", figures)
    said = []
    if own:
        where = "both stores" if inherited else f"the {ruling} store, which rules"
        said.append(f"the chain is broken at entry {min(own)} in {where}: it was not the migration that broke it")
    if torn:
        said.append(f"the chain is broken at entry {min(torn)} in the {other} store only")
    if said:
        diff = f"hal9-migrate state diff --category {SLUG} --verbose"
        command = diff if torn else "hal9-migrate state list-checkpoints"
        return subject.outcome("integrity:chain", CheckVerdict.FAILED, "; ".join(said), figures, command)
    if not target.chain.entries:
        why = f"{source.chain.entries:,} audit entries are linked in the {ruling} store, and none is migrated yet"
        return subject.outcome("integrity:chain", CheckVerdict.SKIPPED, why, figures)
    short = source.chain.entries - target.chain.entries
    more = f"; {short:,} have not arrived yet" if short > 0 else ""
    return subject.outcome(
        "integrity:chain", CheckVerdict.PASSED,
        f"{target.chain.entries:,} audit entries, each linked to the one before, in both stores{more}",
        figures,
    )  # fmt: skip


def _torn(subject: Subject, ruling: StoreName, source: _Walk, broken: list[int]) -> tuple[list[int], int]:
    """Return which links of the other store are really broken, and how many only wait for an entry."""
    torn: list[int] = []
    for number in broken[:_MOST_LOOKED_AT]:
        before = _before(subject, ruling, number)
        # The link between two entries is broken by either.
        torn += [one for one in (before, number) if one is not None and _drifts(subject, one)][:1]
    if source.last is not None and not torn and _drifts(subject, source.last):
        # A chain that has lost its last links is unbroken.
        torn.append(source.last)
    return torn, max(0, len(broken) - len(torn))


def _drifts(subject: Subject, number: int) -> bool:
    return bool(subject.drifted([(str(number),)]))


def _before(subject: Subject, ruling: StoreName, number: int) -> int | None:
    connection = subject.store(ruling)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM ({_ENTRIES[ruling].format('AND id < %s')}) e", (number,))
        row = cursor.fetchone()
        return None if row is None else row[0]


def _walk(connection: Connection, side: StoreName) -> _Walk:
    last: int | None = None

    def rows(cursor: Cursor) -> Iterator[tuple[int, str]]:
        nonlocal last
        for number, payload in cursor:
            last = number
            yield number, payload

    with connection, connection.cursor(name="audit chain") as cursor:
        cursor.itersize = _FETCHED
        cursor.execute(_ENTRIES[side].format(""))
        return _Walk(metadata.verify_audit_chain(rows(cursor)), last)
