"""Differences in the ledger: the records in which the two stores disagree, with the fields that do."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import model
from hal9mig.ledger import database


class DifferenceKind(enum.StrEnum):
    """How a record differs."""

    #: In both stores, with other values.
    MISMATCH = "mismatch"
    #: In the flat store only, although it was migrated.
    MISSING = "missing"
    #: In the hierarchical store only.
    EXTRA = "extra"
    #: Missing or other, and known to be: the record is held in quarantine.
    QUARANTINED = "quarantined"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldDifference:
    """A field and its value in each store, as text that may be clipped; None is SQL's NULL or an absent member."""

    field: str
    flat: str | None
    hier: str | None

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.flat)} -> {_shown(self.hier)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """A record that differs; ``fields`` is filled for mismatches of a deep comparison."""

    key: model.Key
    kind: DifferenceKind
    fields: Sequence[FieldDifference] = ()


def clear(session: database.Session, *, run_id: int, seq: int) -> None:
    """Forget what a batch has found, before it is done from its beginning."""
    database.run(session, "differences", "clear", run_id=run_id, seq=seq)


def add(session: database.Session, found: Sequence[Difference], *, run_id: int, seq: int) -> None:
    """Note differences, in the transaction that moves the batch's cursor past them."""
    if found:
        text = database.json_text([dataclasses.asdict(difference) for difference in found])
        database.run(session, "differences", "add", run_id=run_id, seq=seq, rows=text)


def find(session: database.Session, run_id: int, *, limit: int = 1000) -> Sequence[Difference]:
    """Return a run's differences: mismatches first, then what is missing, extra and quarantined, in key order."""
    return [
        Difference(
            key=tuple(row.key),
            kind=DifferenceKind(row.kind),
            fields=tuple(FieldDifference(**field) for field in row.fields),
        )
        for row in database.run(session, "differences", "select", run_id=run_id, limit=limit)
    ]


def counts(session: database.Session, run_id: int) -> Mapping[DifferenceKind, int]:
    """Return how many differences of each kind a run has noted; its batches may have counted more."""
    return {
        DifferenceKind(row.kind): row.listed for row in database.run(session, "differences", "counts", run_id=run_id)
    }


def partial(session: database.Session, *, run_id: int, seq: int) -> Mapping[str, Any] | None:
    """Return what earlier attempts of a batch have found up to its cursor."""
    row = database.run(session, "differences", "partial", run_id=run_id, seq=seq).first()
    return None if row is None else row.result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """A batch of a verify run: its keys, whether it is done, and what it found."""

    seq: int
    done: bool
    after: model.Key | None
    upto: model.Key | None
    result: Mapping[str, Any] | None


def ranges(session: database.Session, run_id: int) -> Sequence[Range]:
    """Return the batches of a verify run in order."""
    return [
        Range(
            seq=row.seq,
            done=row.status == model.BatchStatus.DONE,
            after=database.key(row.after_key),
            upto=database.key(row.upto_key),
            result=row.result,
        )
        for row in database.run(session, "differences", "ranges", run_id=run_id)
    ]


def _shown(value: str | None) -> str:
    return "NULL" if value is None else value
