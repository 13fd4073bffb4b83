"""Results of checks in the ledger: what was looked at, what came of it, and which command mends it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig.ledger import database


class CheckVerdict(enum.StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    #: There was nothing to look at, or it could not be looked at in this write mode.
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """What one check found.

    Attributes:
        name: the check's, unique within its category: ``continuity``, ``signals``, ``benchmark:read``.
        detail: the finding as a sentence.
        next_command: the command that mends it or tells more; empty when there is nothing to do.
        measured: figures behind the verdict, by name; their units are part of the names.
    """

    category: str
    name: str
    verdict: CheckVerdict
    detail: str = ""
    next_command: str = ""
    measured: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult(CheckOutcome):
    """A check's finding as it was kept: when, by which command, and for whom."""

    id: int
    at: datetime.datetime
    command: str
    actor: str


def add(session: database.Session, outcome: CheckOutcome, *, command: str, actor: str) -> int:
    """Keep what a check found and return its number.

    Args:
        command: the command that ran it, without the program's name.
    """
    values = dataclasses.asdict(outcome)
    return int(database.run(session, "checks", "add", **values, command=command, actor=actor).scalar_one())


def newest(session: database.Session, *, categories: Sequence[str] | None = None) -> Sequence[CheckResult]:
    """Return the newest result of each check, of all categories or of those of these slugs."""
    slugs = None if categories is None else list(categories)
    rows = database.run(session, "checks", "newest", categories=slugs)
    return [CheckResult(**{**row._asdict(), "verdict": CheckVerdict(row.verdict)}) for row in rows]
