"""The words of the system as types: stores, priorities, runs, batches and their legal transitions."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping

from hal9mig import errors

#: A record's key as texts, one an item of the key, in the form PostgreSQL prints them.
Key = tuple[str, ...]


class StoreName(enum.StrEnum):
    """The two stores."""

    FLAT = "flat"
    HIERARCHICAL = "hierarchical"


class Priority(enum.IntEnum):
    """How urgent a run is; the number is the message priority on Redis, where less is sooner."""

    HIGH = 3
    NORMAL = 6
    LOW = 9


class RunKind(enum.StrEnum):
    """What a run does."""

    MIGRATE = "migrate"
    VERIFY = "verify"
    CHECKPOINT = "checkpoint"
    COMPARE = "compare"  # what a restore would lose
    RESTORE = "restore"
    RECONCILE = "reconcile"  # a full pass over a category
    EXPORT = "export"  # learning data into files
    TRANSFORM = "transform"  # such files into those of the hierarchical tables


class RunStatus(enum.StrEnum):
    """Where a run stands."""

    PLANNING = "planning"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    SUCCEEDED = "succeeded"


#: Every legal edge of a run, with the reason it exists.
RUN_TRANSITIONS: Mapping[tuple[RunStatus, RunStatus], str] = {
    (RunStatus.PLANNING, RunStatus.RUNNING): "all its batches are planned",
    (RunStatus.PLANNING, RunStatus.PAUSING): "an operator asked before planning was over",
    (RunStatus.PLANNING, RunStatus.CANCELLING): "an operator asked before planning was over",
    (RunStatus.PLANNING, RunStatus.FAILED): "planning failed, or made no progress until its deadline",
    (RunStatus.RUNNING, RunStatus.PAUSING): "an operator asked; leased batches end their transaction first",
    (RunStatus.RUNNING, RunStatus.CANCELLING): "an operator asked; leased batches end their transaction first",
    (RunStatus.RUNNING, RunStatus.SUCCEEDED): "every batch is done",
    (RunStatus.RUNNING, RunStatus.FAILED): "a batch failed for good, or a setting it needs is gone",
    (RunStatus.PAUSING, RunStatus.PAUSED): "no lease is held any more",
    (RunStatus.PAUSING, RunStatus.CANCELLING): "an operator changed their mind",
    (RunStatus.PAUSING, RunStatus.RUNNING): "an operator changed their mind",
    (RunStatus.PAUSED, RunStatus.RUNNING): "an operator resumed it",
    (RunStatus.PAUSED, RunStatus.PLANNING): "an operator resumed it before its planning was over",
    (RunStatus.PAUSING, RunStatus.PLANNING): "an operator changed their mind before its planning was over",
    (RunStatus.PAUSED, RunStatus.CANCELLING): "an operator cancelled it while paused",
    (RunStatus.CANCELLING, RunStatus.CANCELLED): "no lease is held any more",
    (RunStatus.FAILED, RunStatus.RUNNING): "an operator retried its failed batches",
    (RunStatus.FAILED, RunStatus.PLANNING): "an operator retried its planning",
    (RunStatus.CANCELLED, RunStatus.RUNNING): "an operator retried what was left",
    (RunStatus.CANCELLED, RunStatus.PLANNING): "an operator retried it before its planning was over",
}
RUN_ENDED = frozenset({RunStatus.CANCELLED, RunStatus.FAILED, RunStatus.SUCCEEDED})
#: Seconds after which a status that ought to pass by itself is an alarm and is forced on.
RUN_DEADLINES: Mapping[RunStatus, float] = {RunStatus.PAUSING: 300.0, RunStatus.CANCELLING: 300.0}


class RunOrder(enum.StrEnum):
    """What an operator may do to a run."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"


def legal_orders(status: RunStatus) -> tuple[RunOrder, ...]:
    """Return what an operator may do to a run in this status, by ``RUN_TRANSITIONS``."""
    goes_on = (status, RunStatus.RUNNING) in RUN_TRANSITIONS
    legal = {
        RunOrder.PAUSE: (status, RunStatus.PAUSING) in RUN_TRANSITIONS,
        RunOrder.RESUME: goes_on and status in (RunStatus.PAUSING, RunStatus.PAUSED),
        RunOrder.RETRY: goes_on and status in RUN_ENDED,
        RunOrder.CANCEL: (status, RunStatus.CANCELLING) in RUN_TRANSITIONS,
    }
    return tuple(order for order, holds in legal.items() if holds)


class BatchStatus(enum.StrEnum):
    """Where a batch stands."""

    PLANNED = "planned"
    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"


#: Every legal edge of a batch, with the reason it exists.
BATCH_TRANSITIONS: Mapping[tuple[BatchStatus, BatchStatus], str] = {
    (BatchStatus.PLANNED, BatchStatus.QUEUED): "the dispatcher published it within window and budget",
    (BatchStatus.QUEUED, BatchStatus.LEASED): "a worker claimed it",
    (BatchStatus.QUEUED, BatchStatus.PLANNED): "its message was lost, or the run was paused or cancelled",
    (BatchStatus.LEASED, BatchStatus.DONE): "its last transaction committed",
    (BatchStatus.LEASED, BatchStatus.PLANNED): "handed back, or its lease expired",
    (BatchStatus.LEASED, BatchStatus.FAILED): "it failed for a reason that no record explains, too often",
    (BatchStatus.FAILED, BatchStatus.PLANNED): "an operator retried the run",
    (BatchStatus.DONE, BatchStatus.PLANNED): "the snapshot it was read under is gone, so it is compared anew",
}


def check_transition(old: RunStatus, new: RunStatus) -> None:
    """Raise where a run may not go from ``old`` to ``new``.

    Raises:
        errors.IllegalTransition: the edge is not in ``RUN_TRANSITIONS``.
    """
    if (old, new) not in RUN_TRANSITIONS:
        raise errors.IllegalTransition(f"A run that is {old} cannot become {new}.", hint="hal9-migrate runs list")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """Which records are read back and compared before their transaction commits."""

    mode: str  # strict | sample | off
    share: float = 1.0

    def __str__(self) -> str:
        return f"sample:{self.share:g}" if self.mode == "sample" else self.mode


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One order to migrate, compare, save, restore, export or transform, as the ledger has it."""

    id: int
    kind: RunKind
    category: str
    status: RunStatus
    reason: str
    waiting: str
    priority: Priority
    filter: str
    options: Mapping[str, object]
    planned: bool
    serial: bool
    total_records: int
    done_records: int
    quarantined: int
    total_batches: int
    done_batches: int
    leased: int
    queued: int
    recent_records: int
    bytes: int
    status_since: datetime.datetime
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    requested_by: str
    #: When a restore has taken back what it had copied.
    undone_at: datetime.datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.status in RUN_ENDED

    @property
    def name(self) -> str:
        """What people call it: ``run 7``."""
        return f"run {self.id}"
