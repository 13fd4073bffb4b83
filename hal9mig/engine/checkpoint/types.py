"""What is ordered of checkpoints, what would be done, and what was done."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hal9mig import model, units
from hal9mig.engine.checkpoint.archive import Unusable
from hal9mig.engine.checkpoint.manifest import CategoryDigest, Manifest


class Worked(NamedTuple):
    """What came of a batch, as the ledger keeps it: its result, and the records and bytes that it counts for."""

    result: Mapping[str, Any] | None = None
    records: int = 0
    bytes: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointOrder:
    """What to keep, and how.

    Attributes:
        full: keep the data itself; without it only counts, digests and positions.
        verify: read everything back and compare it with the stores as of the instant.
        categories: slugs; none is all.
        label: ``pre-migration``, ``safety`` or nothing.
        tuning: the run's own values of tuning knobs, as ``{"rate-limit": "off"}``.
    """

    name: str
    description: str = ""
    full: bool = True
    verify: bool = False
    categories: tuple[str, ...] = ()
    label: str = ""
    tuning: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """How long something is going to take: ``least`` to ``seconds``, and what makes one think so."""

    least: float
    seconds: float
    basis: str

    def __str__(self) -> str:
        least, most = units.format_duration(self.least), units.format_duration(self.seconds)
        return f"about {most} ({self.basis})" if least == most else f"between {least} and {most} ({self.basis})"

    @property
    def document(self) -> dict[str, object]:
        """How it stands in a JSON document."""
        return {
            "expected_seconds": round(self.seconds, 1),
            "expected_least_seconds": round(self.least, 1),
            "expected_basis": self.basis,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavePlan:
    """What a checkpoint would hold.

    Attributes:
        rows: estimated, as the server's statistics have them.
        bytes: estimated, uncompressed; what has to be free where the storage can tell.
        expected: how long it is going to take.
        rate: the budget of its own, where it was given one.
        url: where it goes, without its password.
    """

    name: str
    scope: tuple[str, ...]
    rows: int
    bytes: int
    free_bytes: int | None
    chunks: int
    expected: Expected
    rate: units.Rate | None
    url: str
    warnings: Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointListing:
    """What there is: usable checkpoints, newest first; folders that are none; runs that are taking one."""

    manifests: Sequence[Manifest]
    unusable: Sequence[Unusable]
    under_way: Sequence[model.Run]
    #: What those lack that name files which are not there, by name, as a sentence.
    lacking: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Why it is not known which are being taken; empty where it is.
    unknown: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What a restore would do.

    Attributes:
        categories: the slugs that are restored.
        whole: whether that is every category.
        mode_now: the write mode, which a restore never changes.
        refills: tables whose readers wait while they are refilled, as something hangs on their identity.
        active: migrations under way that stand in its way.
        expected: how long it is going to take, without the safety checkpoint before it.
    """

    manifest: Manifest
    categories: tuple[str, ...]
    whole: bool
    mode_now: str
    warnings: Sequence[str]
    refills: Sequence[str]
    active: Sequence[model.Run]
    expected: Expected


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """Rows of a table that differ from the checkpoint's: written since, new since, or gone since."""

    store: str
    category: str
    table: str
    changed: int
    added: int
    removed: int

    @property
    def total(self) -> int:
        """How many rows differ."""
        return self.changed + self.added + self.removed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Untouched:
    """A category that a restore had to leave alone, in one store, before and after it."""

    category: str
    store: str
    before: CategoryDigest
    after: CategoryDigest

    @property
    def same(self) -> bool:
        """Whether nothing was written to it meanwhile, by anybody."""
        return self.before == self.after


@dataclasses.dataclass(frozen=True, kw_only=True)
class Damage:
    """A part of a checkpoint that could not be read: where, how many rows, why, and between which keys."""

    file: str
    frame: int
    rows: int
    why: str
    after: model.Key | None
    upto: model.Key | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore did.

    Attributes:
        tables: each restored table and its rows.
        quarantined: records that went to quarantine because they could not be read.
        offered: those of them that the other store has.
        brought: records that the ruling store brings to the other one again.
        seconds: how long writers were kept out.
    """

    name: str
    tables: Sequence[tuple[str, int]]
    untouched: Sequence[Untouched]
    damages: Sequence[Damage]
    quarantined: int
    offered: int
    brought: int
    mode_then: str
    mode_now: str
    seconds: float
    next_steps: Sequence[str]
