"""What a run was ordered to do, typed: its options as they stand in the ledger, a class for each kind of run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from hal9mig.model import RunKind

#: Kinds of runs whose options are ``KeptOptions``.
ABOUT_CHECKPOINTS = frozenset({RunKind.CHECKPOINT, RunKind.COMPARE, RunKind.RESTORE})


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Options:
    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Read what ``stored`` returned; names that this program does not know are passed over.

        Raises:
            msgspec.ValidationError: they are not of this kind of run.
        """
        return msgspec.convert(dict(options), cls)

    def stored(self) -> dict[str, object]:
        """Return them as JSON values."""
        found: dict[str, object] = msgspec.to_builtins(self)
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class TunedOptions(_Options):
    """Options of every run: its own values of tuning knobs."""

    tuning: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RangedOptions(TunedOptions):
    """Options of a run that is cut into ranges of keys: the records of a batch, 0 is as tuned."""

    batch: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MigrateOptions(RangedOptions):
    """Options of a migration.

    Attributes:
        atomic: one transaction; bulk: validated by batch; merge: rows that are there already are merged with.
        folder: where transformed files lie that records are taken from; manifest: the hash of the manifest there.
    """

    transform_version: int | None = None
    atomic: bool = False
    bulk: bool = False
    merge: bool = False
    folder: str = ""
    manifest: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderOptions(RangedOptions):
    """Options of a run that fills a folder of learning data.

    Attributes:
        folder: its absolute path; place: the token of it, so that a worker knows it.
        layout: ``hierarchical`` or ``flat``.
        store: the identity of the flat store; mode, epoch: the write mode when it was ordered.
        source: the folder that is transformed; manifest: the hash of the manifest there. Empty for an export.
    """

    folder: str
    place: str
    layout: str
    store: str = ""
    mode: str = ""
    epoch: int = 0
    source: str = ""
    manifest: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyOptions(RangedOptions):
    """Options of a comparison; ``deep`` looks at records and fields where ranges differ."""

    deep: bool = True
    batch: int = 50_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class PassOptions(RangedOptions):
    """Options of a full pass: the repair policy's name, whether to insist, and the run whose findings are repaired."""

    policy: str
    insist: bool = False
    of_run: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptOptions(_Options):
    """Options of every run about a checkpoint: its name, the categories, and the token of the place where it lies."""

    checkpoint: str
    scope: tuple[str, ...] = ()
    place: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointOptions(KeptOptions, TunedOptions):
    """Options of a checkpoint that is taken."""

    description: str = ""
    full: bool = True
    verify: bool = False
    label: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreOptions(KeptOptions):
    """Options of a rollback, or with ``recover`` of a recovery.

    Attributes:
        prove_others: digest the categories that are left alone, before and after.
        quarantine: what cannot be read goes to quarantine.
        validate_each: compare every loaded row with the file's.
    """

    prove_others: bool = False
    reason: str = ""
    recover: bool = False
    quarantine: bool = False
    validate_each: bool = False
