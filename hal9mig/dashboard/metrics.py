"""What monitoring reads: where everything stands as Prometheus metrics, read from the ledger when it is asked for.

Whatever cannot be read is left out and not told as it was: an alert on its absence is one that can be trusted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

import hal9mig
from hal9mig.dashboard.overview import Figures, Overview
from hal9mig.dashboard.reader import Away
from hal9mig.engine import run_standing
from hal9mig.ledger.pace import Pace
from hal9mig.ledger.totals import Totals
from hal9mig.model import RunKind, RunStatus
from hal9mig.stores.write_mode import Mode

#: How a run's reason to wait begins, and what it is held by; anything else is another run or its own pause.
_HOLDING = (
    ("rate-limit", "rate-limit"), ("the budget", "queue"), ("the application", "application"), ("no worker", "workers"),
    ("", "turn"),
)  # fmt: skip
_ENDS = (RunStatus.SUCCEEDED.value, RunStatus.FAILED.value, RunStatus.CANCELLED.value)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def text(found: Overview | Away, beside: Figures | Away) -> bytes:
    """Return where everything stands in Prometheus's text format; of what is away only that it is."""
    return generate_latest(_Collected(found, beside))


class _Collected:
    """A registry of what was read just now."""

    def __init__(self, found: Overview | Away, beside: Figures | Away):
        self._found, self._beside = found, beside

    def collect(self) -> Iterator[Metric]:
        found, beside = self._found, self._beside
        yield _gauge("hal9_build_info", "This program.", ["version"], [((hal9mig.__version__,), 1)])
        yield _figure("hal9_up", "Whether the ledger answers.", float(isinstance(found, Overview)))
        servers = found.servers if isinstance(found, Away) else found.around.servers
        yield _gauge(
            "hal9_server_up", "Whether a server answers.", ["server"],
            [((one.name,), float(not one.trouble)) for one in servers],
        )  # fmt: skip
        if isinstance(found, Overview):
            yield from _mode(found)
            yield from _runs(found)
            yield from _categories(found)
            yield from _journals(found)
            yield from _reconciling(found)
            yield from _workers(found)
            yield from _checkpoints(found)
            yield from _wrong(found)
        if isinstance(found, Overview) and isinstance(beside, Figures):
            yield from _work(found, beside.totals)
            yield from _felt(beside.felt)


def _gauge(name: str, told: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    return _filled(GaugeMetricFamily(name, told, labels=labels), values)


def _counter(name: str, told: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    return _filled(CounterMetricFamily(name, told, labels=labels), values)


def _filled(made: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    for label, value in values:
        made.add_metric(label, value)
    return made


def _figure(name: str, told: str, value: float | None) -> Metric:
    """Return a gauge without labels; where its value is not known there is nothing of it."""
    return _gauge(name, told, [], [] if value is None else [((), value)])


def _mode(found: Overview) -> Iterator[Metric]:
    yield _gauge(
        "hal9_write_mode", "1 for the write mode in force.", ["mode"],
        [((mode.value,), float(found.line.mode == mode.value)) for mode in Mode],
    )  # fmt: skip
    yield _figure("hal9_epoch", "The write mode's epoch.", found.line.epoch)
    yield _figure(
        "hal9_write_mode_since_timestamp_seconds", "When the write mode came into force.", found.line.since.timestamp()
    )
    yield _figure(
        "hal9_switch_under_way", "Whether a switch of the write mode is half way.", float(found.line.target is not None)
    )


def _work(found: Overview, totals: Totals) -> Iterator[Metric]:
    # From nothing on: what is first heard of at one has never risen, and no alert would see it.
    slugs = {one.standing.category.slug for one in found.categories}
    nothing = {("migrate", slug) for slug in slugs} - {(one.kind, one.category) for one in totals.work}
    for name, told in (
        ("records", "Records that runs went through."),
        ("quarantined", "Records that runs put into quarantine."),
        ("bytes", "Bytes that runs went through."),
        ("busy_seconds", "Seconds that workers spent on batches."),
    ):
        values = [((one.kind, one.category), float(getattr(one, name))) for one in totals.work]
        values += [(key, 0.0) for key in sorted(nothing)]
        yield _counter(f"hal9_run_{name}", told, ["kind", "category"], values)
    ended = {**dict.fromkeys(itertools.product(map(str, RunKind), _ENDS), 0.0), **totals.ended}
    yield _counter("hal9_runs_ended", "Runs that have ended.", ["kind", "status"], ended.items())
    done = totals.reconciled
    yield _counter("hal9_rounds", "Rounds of the reconciler.", [], [((), done.rounds)])
    yield _counter("hal9_rounds_failed", "Rounds that failed.", [], [((), done.failed)])
    yield _counter("hal9_compared_records", "Records that rounds have compared.", [], [((), done.compared)])
    yield _counter("hal9_drifted_records", "Records that rounds have found to differ.", [], [((), done.found)])
    yield _counter("hal9_repaired_records", "Records that rounds have put right.", [], [((), done.repaired)])


def _runs(found: Overview) -> Iterator[Metric]:
    states: dict[tuple[str, ...], float] = {}
    for one in found.under_way:
        key = (one.run.kind.value, run_standing.word_and_reason(one.run)[0])
        states[key] = states.get(key, 0) + 1
    yield _gauge("hal9_runs_under_way", "Runs that have not ended.", ["kind", "state"], states.items())
    held: dict[tuple[str, ...], float] = dict.fromkeys(((by,) for _, by in _HOLDING), 0.0)
    for one in found.under_way:
        if one.run.waiting:
            by = next(by for start, by in _HOLDING if one.run.waiting.startswith(start))
            held[by,] += 1
    yield _gauge("hal9_runs_held", "Runs that do not go on as fast as they could, by what holds them.", ["by"],
                 held.items())  # fmt: skip
    progress = [one.run for one in found.under_way if one.run.planned]
    for name, told, attribute in (
        ("hal9_run_done_records", "Records that a run under way has done.", "done_records"),
        ("hal9_run_planned_records", "Records that a run under way goes through.", "total_records"),
    ):
        values: dict[tuple[str, ...], float] = {}
        for run in progress:
            key = (run.kind.value, run.category)
            values[key] = values.get(key, 0) + getattr(run, attribute)
        yield _gauge(name, told, ["kind", "category"], values.items())
    yield _figure(
        "hal9_migrating_records_per_second", "Rate of all migrations, over the last ten seconds.", found.speed
    )
    yield _figure("hal9_budget_used_ratio", "Share of the budget that is used; absent without one.", found.used)
    yield _figure("hal9_leases", "Batches in workers' hands.", found.leased)
    yield _figure("hal9_queue_messages", "Messages in the queue.", found.around.messages)


def _felt(felt: Pace) -> Iterator[Metric]:
    fresh = not felt.stale
    yield _figure(
        "hal9_pace_share_ratio",
        "Share of their time that workers may spend on what can wait; absent while nothing is paced.",
        felt.share if fresh else None,
    )
    yield _gauge(
        "hal9_application_seconds", "What a small operation takes on the ruling store, now and in quiet.",
        ["operation", "when"],
        [
            ((name, when), getattr(one, name))
            for when, one in (("now", felt.now), ("quiet", felt.quiet))
            for name in ("read", "write")
        ] if fresh else [],
    )  # fmt: skip


def _categories(found: Overview) -> Iterator[Metric]:
    named = [((one.standing.category.slug,), one) for one in found.categories]
    counted = [(slug, one.standing.flat.count, one.standing.covered) for slug, one in named if one.standing.flat]
    yield _gauge(
        "hal9_flat_records", "Records of a category's flat table.", ["category"],
        [(slug, count) for slug, count, _ in counted],
    )  # fmt: skip
    yield _gauge(
        "hal9_covered_records", "Of them those that are in the other store, or are brought there by themselves.",
        ["category"], [(slug, covered) for slug, _, covered in counted],
    )  # fmt: skip
    yield _gauge(
        "hal9_quarantined_records", "Records that are held back.", ["category"],
        [(slug, one.standing.held) for slug, one in named],
    )  # fmt: skip
    yield _gauge(
        "hal9_open_drifts", "Drifts that are not repaired.", ["category"],
        [(slug, one.open_drifts) for slug, one in named],
    )  # fmt: skip


def _journals(found: Overview) -> Iterator[Metric]:
    known = {name.split()[0]: one for name, one in found.around.journals.items() if one is not None}
    for name, told, attribute in (
        ("hal9_journal_records", "Writes that wait to be applied to the other store.", "records"),
        ("hal9_journal_oldest_seconds", "How long the oldest of them has waited.", "seconds"),
        ("hal9_journal_bytes", "Size of the journal on the disk.", "bytes"),
    ):
        yield _gauge(name, told, ["store"], [((store,), getattr(one, attribute)) for store, one in known.items()])


def _reconciling(found: Overview) -> Iterator[Metric]:
    last = found.reconciling.last
    yield _figure("hal9_round_interval_seconds", "Time from round to round.", found.reconciling.interval)
    began = None if last is None else last.began.timestamp()
    yield _figure("hal9_last_round_timestamp_seconds", "When the newest round began.", began)
    yield _figure("hal9_drift_ratio", "Share of the compared records that drifted.", found.reconciling.share)
    yield _figure("hal9_drift_alert_ratio", "The share above which it alerts.", found.tuned.alert_threshold)


def _workers(found: Overview) -> Iterator[Metric]:
    yield _figure("hal9_workers", "Workers alive.", len(found.workers))
    yield _figure("hal9_worker_slots", "Batches that they take at once.", found.slots)
    yield _gauge(
        "hal9_worker_memory_bytes", "A worker's memory, shared pages counted once.", ["worker"],
        [((one.name,), one.memory_bytes) for one in found.workers],
    )  # fmt: skip


def _checkpoints(found: Overview) -> Iterator[Metric]:
    listing = found.around.checkpoints
    full = [one for one in listing.manifests if one.restorable] if listing is not None else []
    yield _figure("hal9_checkpoints", "Full checkpoints.", None if listing is None else len(full))
    for name, told, chosen in (
        ("hal9_last_checkpoint_timestamp_seconds", "As of when the newest full checkpoint is.", full),
        ("hal9_last_verified_checkpoint_timestamp_seconds", "As of when the newest verified one is.",
         [one for one in full if one.verified]),
    ):  # fmt: skip
        yield _figure(name, told, max((one.taken_at.timestamp() for one in chosen), default=None))


def _wrong(found: Overview) -> Iterator[Metric]:
    raised: dict[tuple[str, ...], float] = {}
    for one in found.alarms:
        raised[one.name,] = raised.get((one.name,), 0) + 1
    yield _gauge("hal9_alarms", "Alarms that last.", ["alarm"], raised.items())
    yield _gauge(
        "hal9_stands_still", "1 for each thing that has to go on and stands still.", ["problem"],
        [((one.name,), 1) for one in found.problems],
    )  # fmt: skip
