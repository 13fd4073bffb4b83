"""What a check looks at: one category in both stores, as an application and as an account of ours see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hal9mig import model
from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category
from hal9mig.client.client import Client
from hal9mig.client.values import Record
from hal9mig.engine.compare import judge
from hal9mig.engine.compare.judge import Judgement, Sides, Verdict
from hal9mig.engine.desk import Desk
from hal9mig.engine.reconcile import full_pass
from hal9mig.engine.system import System
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

#: More are drawn than are wanted, since some fall out: expired sessions, and rows that a sample of blocks missed.
_SPARE = 4
_SIZE = "SELECT coalesce(sum(greatest(reltuples, 0)), 0) FROM pg_class WHERE oid = ANY(%s::regclass[])"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """One category in both stores.

    Attributes:
        sample: how many records a check reads that does not read them all.
        seed: of what is drawn: the same rows and seed give the same sample.
        bound: how many times as long as the flat store the hierarchical one may take.
        sla: milliseconds; what takes no longer is fast enough, however fast the flat store is.
    """

    system: System
    client: Client
    desk: Desk
    category: Category
    sample: int = 200
    seed: int = 1
    bound: float = 3.0
    sla: float = 10.0

    @property
    def flat(self) -> Connection:
        """The flat store, outside a transaction."""
        return self.desk.flat("check")

    @property
    def hier(self) -> Connection:
        """The hierarchical store, outside a transaction."""
        return self.desk.hier("check")

    def store(self, store: model.StoreName) -> Connection:
        """Return one of the two."""
        return self.desk.store(store, "check")

    def sides(self) -> Sides:
        """Return both sides as the write mode has them.

        Raises:
            errors.GateClosed: the write mode is being switched, or a restore is under way.
        """
        return full_pass.sides(self.system, self.desk, self.category)

    def outcome(
        self, name: str, verdict: CheckVerdict, detail: str, measured: Mapping[str, Any], next_command: str = ""
    ) -> CheckOutcome:
        """Return what a check of this category found."""
        return CheckOutcome(
            category=self.category.slug, name=name, verdict=verdict, detail=detail, next_command=next_command,
            measured=measured,
        )  # fmt: skip

    def read(self, side: model.StoreName, key: model.Key) -> Record | None:
        """Return the record of a key in one store, through the client."""
        return next(iter(self.client.fetch(side, self.category.slug, [key])), None)

    def judged(self, keys: list[model.Key]) -> dict[model.Key, Verdict]:
        """Return what keys that looked different really are: the application writes meanwhile."""
        return {one.key: one for one in judge.judge(self.sides(), keys)} if keys else {}

    def drifted(self, keys: list[model.Key]) -> list[model.Key]:
        """Return which of these keys differ, and will go on differing."""
        return [key for key, one in self.judged(keys).items() if one.state is Judgement.DRIFTS]

    def drawn(self, count: int) -> list[model.Key]:
        """Draw keys of migrated records at random from the store that rules; fewer where there are fewer."""
        wanted = count * _SPARE
        both = self.sides()
        tables = [self.category.source.qualified] if both.forward else [one.qualified for one in self.category.roots]
        with both.source, both.source.cursor() as cursor:
            cursor.execute(_SIZE, (tables,))
            size = float((cursor.fetchone() or (0,))[0])
        share = min(100.0, 100.0 * wanted * _SPARE / size) if size else 100.0
        found = self._draw(both, share, wanted)
        # Statistics may be old, and rows that are not migrated fall out.
        return found if share == 100.0 or len(found) == wanted else self._draw(both, 100.0, wanted)

    def _draw(self, both: Sides, share: float, count: int) -> list[model.Key]:
        category, values = self.category, []
        sample = "TABLESAMPLE BERNOULLI (%s) REPEATABLE (%s)"
        if both.forward:
            rows = f"SELECT * FROM {category.source.qualified} s {sample} WHERE {both.covered[0]}"
            values += [share, self.seed, *both.covered[1]]
        else:
            parts = []
            for root in category.roots:
                parts.append(f"SELECT {projection.as_key(category, root.owner, 'r')} FROM {root.qualified} r {sample}")
                values += [share, self.seed]
            rows = " UNION ALL ".join(parts)
        texts = projection.key_texts(category)
        order = f"hashtextextended(concat_ws('/', {texts}), %s)"
        with both.source, both.source.cursor() as cursor:
            cursor.execute(
                f"SELECT {texts} FROM ({rows}) s ORDER BY {order}, {identifiers.listed(category.key, 's')} LIMIT %s",
                [*values, self.seed, count],
            )
            return [tuple(row) for row in cursor.fetchall()]
