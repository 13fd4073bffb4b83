"""A sample of a category's records, and what the judge says of each: what is on its way is no difference."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

from hal9mig import model
from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category
from hal9mig.engine.compare import judge
from hal9mig.engine.compare.judge import Judgement, Verdict
from hal9mig.engine.desk import Desk
from hal9mig.engine.reconcile import full_pass
from hal9mig.engine.system import System
from hal9mig.stores import capture, projection
from hal9mig.stores.connection import Connection

#: Rows beyond which a sample is drawn from a part of the table only.
_FEW = 20_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampled:
    """Keys that were drawn, by what the judge says of them.

    Attributes:
        both: in both stores and the same; lagging: changing or on their way; pending: not migrated yet.
        drifting: wrong, with how.
    """

    both: Sequence[model.Key]
    lagging: int
    pending: int
    drifting: Sequence[Verdict]

    @property
    def told(self) -> str:
        """The counts as words."""
        more = [
            f"{count:,} {word}"
            for count, word in ((self.lagging, "on their way"), (self.pending, "not migrated yet"))
            if count
        ]
        return ", ".join([f"{len(self.both):,} the same in both stores", *more])


@contextlib.contextmanager
def opened(system: System) -> Iterator[Desk]:
    """Keep connections to both stores for a block."""
    desk = Desk(system)
    try:
        yield desk
    finally:
        desk.clear()


def keys(system: System, category: Category, count: int, *, seed: int) -> list[model.Key]:
    """Return the keys of so many records of the ruling store, the same for the same seed and rows."""
    with contextlib.closing(system.flat()) as flat:
        ruling = capture.state(flat).mode.ruling
        if ruling is model.StoreName.FLAT:
            return _drawn(flat, category, category.source.qualified, category.key, count, seed)
    with contextlib.closing(system.hier()) as hier:
        # Some of each root, so that one that is small is not overlooked.
        found = [_drawn(hier, category, root.qualified, root.owner, count, seed) for root in category.roots]
    mixed: list[model.Key] = []
    while any(found) and len(mixed) < count:
        mixed += [part.pop() for part in found if part]
    return mixed[:count]


def _drawn(
    connection: Connection, category: Category, table: str, names: Sequence[str], count: int, seed: int
) -> list[model.Key]:
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", (table,))
        rows = max(0.0, (cursor.fetchone() or (0.0,))[0])
        # Of a large table a part that holds some times as many; all of a small one, or of one without statistics.
        share = min(100.0, 100.0 * max(10 * count, _FEW) / rows) if rows else 100.0
        part = "" if share >= 100 else f"TABLESAMPLE BERNOULLI ({share:f}) REPEATABLE ({int(seed)})"
        texts = projection.texts(category, names)
        cursor.execute(
            f"SELECT {texts} FROM {table} {part} "
            f"ORDER BY hashtextextended(concat_ws('/', {texts}), %s), {identifiers.listed(names)} LIMIT %s",
            (seed, count),
        )
        return [tuple(row) for row in cursor.fetchall()]


def judged(system: System, desk: Desk, category: Category, wanted: Sequence[model.Key]) -> Sampled:
    """Return what the judge says of these keys.

    Raises:
        errors.StaleEpoch: the write mode was switched meanwhile.
    """
    verdicts = judge.judge(full_pass.sides(system, desk, category), wanted)
    by_state = {state: [one for one in verdicts if one.state is state] for state in Judgement}
    return Sampled(
        both=[one.key for one in by_state[Judgement.AGREES] if one.flat is not None],
        lagging=len(by_state[Judgement.LAGS]),
        pending=len(by_state[Judgement.PENDING]),
        drifting=by_state[Judgement.DRIFTS],
    )
