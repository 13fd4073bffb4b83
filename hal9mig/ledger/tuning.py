"""The tuning plane: rates, sizes and modes that ``configure`` sets, live at the next batch."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping

from hal9mig import errors, model, units
from hal9mig.ledger import database


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


def parse_tolerance(text: str) -> int:
    """Return a whole number of zero or more.

    Raises:
        errors.InvalidUnit: it has another form.
    """
    return 0 if text.strip() == "0" else units.parse_count(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knob:
    """One tunable value: its name, how it is read, its default and its meaning."""

    name: str
    parse: Callable[[str], object]
    default: str
    help: str


KNOBS: tuple[Knob, ...] = (
    Knob(name="batch-size", parse=units.parse_count, default="10000", help="records a batch: one task, one lease"),
    Knob(name="checkpoint-interval", parse=units.parse_count, default="1000",
         help="records between durable cursors: one transaction; at most the batch size"),
    Knob(name="batch-bytes", parse=units.parse_bytes, default="8MB", help="bytes at which a transaction is cut"),
    Knob(name="rate-limit", parse=units.parse_rate, default="off", help="budget of the whole cluster"),
    Knob(name="parallel-workers", parse=units.parse_count, default="64", help="leases held at once, cluster-wide"),
    Knob(name="validation-mode", parse=parse_validation, default="strict",
         help="records read back and compared before their transaction commits"),
    Knob(name="quarantine-policy", parse=parse_tolerance, default="0",
         help="records that may be in quarantine when the gate is passed"),
)  # fmt: skip
_BY_NAME = {knob.name: knob for knob in KNOBS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """The resolved tuning of a run or of the cluster."""

    batch_size: int
    checkpoint_interval: int
    batch_bytes: int
    rate_limit: units.Rate | None
    parallel_workers: int
    validation: model.Validation

    @property
    def effective_batch(self) -> int:
        """Records of a batch: the batch size, or one second of a budget that is smaller."""
        if self.rate_limit is not None and self.rate_limit.unit is units.RateUnit.RECORDS:
            return max(1, min(self.batch_size, int(self.rate_limit.per_second)))
        return self.batch_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """A tuned value with where it came from."""

    name: str
    value: str
    origin: str
    changed_at: datetime.datetime | None


def stored(session: database.Session) -> list[Shown]:
    """Return every knob's present value."""
    rows = {row.name: row for row in database.run(session, "workers", "tuning")}
    return [
        Shown(name=knob.name, value=rows[knob.name].value, origin=rows[knob.name].changed_by,
              changed_at=rows[knob.name].changed_at)
        if knob.name in rows
        else Shown(name=knob.name, value=knob.default, origin="default", changed_at=None)
        for knob in KNOBS
    ]  # fmt: skip


def value(session: database.Session, name: str) -> object:
    """Return one knob's present value, as its parser makes it."""
    return next(_BY_NAME[shown.name].parse(shown.value) for shown in stored(session) if shown.name == name)


def resolve(session: database.Session, overrides: Mapping[str, str] | None = None) -> Tuning:
    """Return the tuning in force, with a run's own values over the stored ones.

    Raises:
        errors.InvalidUnit: an override cannot be read.
    """
    values = {shown.name: shown.value for shown in stored(session)} | dict(overrides or {})
    parsed = {knob.name: knob.parse(values[knob.name]) for knob in KNOBS}
    return Tuning(
        batch_size=parsed["batch-size"],  # type: ignore[arg-type]
        checkpoint_interval=parsed["checkpoint-interval"],  # type: ignore[arg-type]
        batch_bytes=parsed["batch-bytes"],  # type: ignore[arg-type]
        rate_limit=parsed["rate-limit"],  # type: ignore[arg-type]
        parallel_workers=parsed["parallel-workers"],  # type: ignore[arg-type]
        validation=parsed["validation-mode"],  # type: ignore[arg-type]
    )


def change(session: database.Session, values: Mapping[str, str], *, actor: str) -> None:
    """Store values after reading each; nothing is stored when one cannot be read.

    Raises:
        errors.InvalidUnit: a value cannot be read.
    """
    for name, value in values.items():
        _BY_NAME[name].parse(value)
    for name, value in values.items():
        database.run(session, "workers", "set_tuning", name=name, value=value, actor=actor)
    if values:
        database.run(session, "workers", "log_event", actor=actor, action="configure", run_id=None, detail=dict(values))
