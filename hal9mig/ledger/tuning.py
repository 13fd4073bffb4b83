"""The tuning plane: rates, sizes and modes that ``configure`` sets, live at the next batch."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hal9mig import errors, model, units
from hal9mig.ledger import audit, database


def parse_validation(text: str) -> model.Validation:
    """Return the mode of ``strict``, ``sample:<share>`` or ``off``.

    Raises:
        errors.InvalidUnit: it has another form.
    """
    mode, _, share = text.strip().lower().partition(":")
    if mode == "sample" and share and units.parse_share(share) > 0:
        return model.Validation(mode="sample", share=units.parse_share(share))
    if mode in ("strict", "off") and not share:
        return model.Validation(mode=mode)
    raise errors.InvalidUnit(f"{text!r} is not a validation mode.", hint="strict, sample:0.1 or off")


def parse_switch(text: str) -> bool:
    """Return the truth of ``true`` or ``false``.

    Raises:
        errors.InvalidUnit: it is neither.
    """
    if text.lower() not in ("true", "false"):
        raise errors.InvalidUnit(f"{text!r} is neither true nor false.", hint="write true or false")
    return text.lower() == "true"


def parse_portion(text: str) -> float:
    """Return a share above zero.

    Raises:
        errors.InvalidUnit: it has another form, or is zero.
    """
    share = units.parse_share(text)
    if not share:
        raise errors.InvalidUnit(f"{text!r} leaves nothing to work with.", hint="write it like 0.1 or 10%")
    return share


def parse_tolerance(text: str) -> int:
    """Return a whole number of zero or more.

    Raises:
        errors.InvalidUnit: it has another form.
    """
    return 0 if text.strip() == "0" else units.parse_count(text)


def parse_impact(text: str) -> float | None:
    """Return the share of ``20%`` by which the application may be slower, None for ``off``.

    Raises:
        errors.InvalidUnit: it has another form, or is zero.
    """
    return None if text.strip().lower() == "off" else parse_portion(text)


def parse_query(text: str) -> str | None:
    """Return a query, None for ``off``."""
    return None if text.strip().lower() in ("off", "") else text.strip().rstrip(";")


#: Seconds that comparing may take in one round, whatever the interval.
LONGEST_ROUND = 30.0


class KnobGroup(enum.StrEnum):
    """Which command sets a value."""

    STATE_MIGRATION = "state-migration"
    RECONCILIATION = "reconciliation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knob:
    """One tunable value: its name, how it is read, its default, its meaning, and the command that sets it."""

    name: str
    parse: Callable[[str], object]
    default: str
    help: str
    group: KnobGroup = KnobGroup.STATE_MIGRATION


KNOBS: tuple[Knob, ...] = (
    Knob(name="batch-size", parse=units.parse_count, default="20000",
         help="records a batch, cut at 32 MB: one task, one lease"),
    Knob(name="checkpoint-interval", parse=units.parse_count, default="2500",
         help="records between durable cursors: one transaction; at most the batch size"),
    Knob(name="batch-bytes", parse=units.parse_bytes, default="8MB", help="bytes at which a transaction is cut"),
    Knob(name="rate-limit", parse=units.parse_rate, default="off", help="budget of the whole cluster"),
    Knob(name="parallel-workers", parse=units.parse_count, default="64", help="leases held at once, cluster-wide"),
    Knob(name="validation-mode", parse=parse_validation, default="strict",
         help="records read back and compared before their transaction commits"),
    Knob(name="max-impact", parse=parse_impact, default="20%",
         help="how much longer the application's reads and writes may take for work that can wait"),
    Knob(name="max-replica-lag", parse=units.parse_duration, default="10s",
         help="how far behind a replica of the ruling store may be while such work goes on"),
    Knob(name="impact-query", parse=parse_query, default="off",
         help="a query of your own on the ruling store; such work stands still while it gives true, or a number but 0"),
    Knob(name="quarantine-policy", parse=parse_tolerance, default="0",
         help="records that may be in quarantine when the gate is passed"),
    Knob(name="reconcile-interval", parse=units.parse_duration, default="30s",
         help="time from one round of the reconciler to the next", group=KnobGroup.RECONCILIATION),
    Knob(name="auto-fix", parse=parse_switch, default="true",
         help="whether a round repairs what it finds, or only notes it", group=KnobGroup.RECONCILIATION),
    Knob(name="alert-threshold", parse=units.parse_share, default="0.01",
         help="share of records that differ above which it alerts", group=KnobGroup.RECONCILIATION),
    Knob(name="reconcile-share", parse=parse_portion, default="0.02",
         help="share of one core that comparing may take", group=KnobGroup.RECONCILIATION),
    Knob(name="journal-alarm", parse=units.parse_count, default="100000",
         help="writes waiting in a journal above which it alerts", group=KnobGroup.RECONCILIATION),
)  # fmt: skip
_BY_NAME = {knob.name: knob for knob in KNOBS}
#: Bytes at which a batch is cut: of wide records a number of them would be one worker's for long.
BATCH_BYTES = 32 * 10**6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """The resolved tuning of a run or of the cluster."""

    batch_size: int
    checkpoint_interval: int
    batch_bytes: int
    rate_limit: units.Rate | None
    parallel_workers: int
    validation: model.Validation
    max_impact: float | None

    @property
    def effective_batch(self) -> int:
        """Records of a batch: the batch size, or one second of a budget that is smaller."""
        if self.rate_limit is not None and self.rate_limit.unit is units.RateUnit.RECORDS:
            return max(1, min(self.batch_size, int(self.rate_limit.per_second)))
        return self.batch_size

    def batch_of(self, record_bytes: int) -> int:
        """Return the records of a batch where one measures so many bytes; 0 is not known."""
        return max(1, min(self.effective_batch, BATCH_BYTES // record_bytes)) if record_bytes else self.effective_batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """How the reconciler works.

    Attributes:
        interval: seconds from round to round.
        auto_fix: whether a round repairs what it finds.
        alert_threshold: share of records that differ above which it alerts.
        share: of one core that comparing may take.
        journal_alarm: writes waiting in a journal above which it alerts.
    """

    interval: float
    auto_fix: bool
    alert_threshold: float
    share: float
    journal_alarm: int

    @property
    def seconds(self) -> float:
        """Seconds that comparing may take in one round; bounded, as a worker's slot is for batches too."""
        return min(self.share * self.interval, LONGEST_ROUND)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the application may feel of work that can wait.

    Attributes:
        impact: share by which its reads and writes may take longer.
        replica: seconds that a replica may be behind.
        query: the user's own, which says when to stop.
    """

    impact: float
    replica: float
    query: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """A tuned value with where it came from."""

    name: str
    value: str
    origin: str
    changed_at: datetime.datetime | None


def stored(session: database.Session, group: KnobGroup | None = None) -> list[Shown]:
    """Return the present value of every knob, or of those of one group."""
    rows = {row.name: row for row in database.run(session, "tuning", "stored")}
    return [
        Shown(name=knob.name, value=rows[knob.name].value, origin=rows[knob.name].changed_by,
              changed_at=rows[knob.name].changed_at)
        if knob.name in rows
        else Shown(name=knob.name, value=knob.default, origin="default", changed_at=None)
        for knob in KNOBS
        if group is None or knob.group is group
    ]  # fmt: skip


def value(session: database.Session, name: str) -> object:
    """Return one knob's present value, as its parser makes it."""
    return _parsed(session)[name]


def _parsed(session: database.Session, overrides: Mapping[str, str] | None = None) -> dict[str, Any]:
    values = {shown.name: shown.value for shown in stored(session)} | dict(overrides or {})
    return {knob.name: knob.parse(values[knob.name]) for knob in KNOBS}


def resolve(session: database.Session, overrides: Mapping[str, str] | None = None) -> Tuning:
    """Return the tuning in force, with a run's own values over the stored ones.

    Raises:
        errors.InvalidUnit: an override cannot be read.
    """
    values = _parsed(session, overrides)
    return Tuning(
        batch_size=values["batch-size"],
        checkpoint_interval=values["checkpoint-interval"],
        batch_bytes=values["batch-bytes"],
        rate_limit=values["rate-limit"],
        parallel_workers=values["parallel-workers"],
        validation=values["validation-mode"],
        max_impact=values["max-impact"],
    )


def bounds(session: database.Session, own: Collection[str]) -> Bounds | None:
    """Return the narrowest bounds of runs that are under way; None where each of them is told to go without.

    Args:
        own: each run's own ``max-impact``, empty where it is the cluster's.
    """
    values = _parsed(session)
    impacts = [parse_impact(text) if text else values["max-impact"] for text in own]
    narrowest = min((impact for impact in impacts if isinstance(impact, float)), default=None)
    if narrowest is None:
        return None
    return Bounds(
        impact=narrowest,
        replica=values["max-replica-lag"],
        query=values["impact-query"],
    )


def reconciliation(session: database.Session) -> Reconciliation:
    """Return how the reconciler works at present."""
    values = _parsed(session)
    return Reconciliation(
        interval=values["reconcile-interval"],
        auto_fix=values["auto-fix"],
        alert_threshold=values["alert-threshold"],
        share=values["reconcile-share"],
        journal_alarm=values["journal-alarm"],
    )


def change(session: database.Session, values: Mapping[str, str], *, actor: str) -> None:
    """Store values after reading each; nothing is stored when one cannot be read.

    Raises:
        errors.InvalidUnit: a value cannot be read.
    """
    for name, value in values.items():
        _BY_NAME[name].parse(value)
    for name, value in values.items():
        database.run(session, "tuning", "change", name=name, value=value, actor=actor)
    if values:
        audit.log(session, "configure", actor=actor, detail=dict(values))
