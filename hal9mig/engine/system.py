"""One process's view of the whole: settings, categories, ledger, queue, budget and store connections."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hal9mig import errors, model
from hal9mig import settings as settings_module
from hal9mig.categories import registry
from hal9mig.categories.declaration import Category
from hal9mig.ledger import phases
from hal9mig.ledger.database import Ledger
from hal9mig.stores import connection, domains, rights, schema

if TYPE_CHECKING:
    # Late: each of these takes its time to load, and most commands need none of them.
    from hal9mig.categories.transform import Transform
    from hal9mig.engine.throttle import Throttle
    from hal9mig.queue.broker import Broker


class System:
    """Opens what it is asked for, and keeps it for the process. Make another one after a fork.

    Args:
        resolved: the connection plane.
        role: what this process is, for ``pg_stat_activity``: ``cli``, ``worker``.
        trust: seconds for which a connection to the ledger that was used last is taken to be alive, for a loop that
            looks several times a second: what fails it does anew.

    Attributes:
        patience: seconds that a statement waits for a lock; None is as long as it takes.
    """

    def __init__(self, resolved: settings_module.Settings, *, role: str, trust: float = 0.0):
        self.settings = resolved
        self.role = f"hal9-migrate {role}"
        self.patience: float | None = None
        self._own = False
        self._trust = trust

    @functools.cached_property
    def registry(self) -> registry.Registry:
        """Every declared category, with the types that domains are over.

        Raises:
            errors.Unreachable: one has a type that only the flat store knows, and it cannot be reached.
        """
        return domains.resolved(registry.load(self.settings.category_files), self.flat)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The ledger; it keeps a few connections: for the batch in hand, the heartbeat, and single records."""
        return Ledger(
            self._urls()[1],
            application_name=self.role,
            connect_timeout=self.settings.connect_timeout,
            pool_size=3,
            patience=self.patience,
            trust=self._trust,
        )

    @functools.cached_property
    def broker(self) -> Broker:
        """The queue, for publishing."""
        from hal9mig.queue import app as queue_app
        from hal9mig.queue.broker import Broker

        make = functools.partial(queue_app.make, self.settings)
        return Broker(make, self.settings.require_redis(), self.settings.queue_prefix)

    @functools.cached_property
    def throttle(self) -> Throttle:
        """The cluster's budget."""
        from hal9mig.engine.throttle import Throttle

        return Throttle(self.settings.require_redis(), self.settings.queue_prefix)

    def direct(self) -> System:
        """Return the same with sessions of the servers' own, also where its other ones are lent by a pooler.

        Raises:
            errors.Refused: a store's two addresses lead to two databases.
            errors.PoolerBetween: the direct address is a pooler's too.
            errors.Unreachable: a store does not answer.
        """
        if self._own:
            return self
        settings = self.settings
        for url, own_url in zip(
            (settings.require_flat(), settings.require_hier()), settings.direct_urls(), strict=True
        ):
            if own_url != url:
                connection.require_same(url, own_url, application_name=self.role)
        other = copy.copy(self)
        other._own = True
        if settings.hier_direct_url:
            vars(other).pop("ledger", None)
        return other

    def require_direct(self) -> None:
        """Raise where no session of the servers' own is to be had, for what workers will need one for.

        Raises:
            errors.Refused, errors.PoolerBetween, errors.Unreachable: as ``direct`` and ``flat`` do.
        """
        direct = self.direct()
        direct.flat().close()
        direct.hier().close()

    def impatient(self, patience: float, *, mark: str) -> System:
        """Return the same with sessions of its own, whose statements wait for a lock for so many seconds only.

        Args:
            mark: what is added to the name of its sessions, so that they can be told from others.
        """
        other = copy.copy(self.direct())
        vars(other).pop("ledger", None)  # the caller closes the one that takes its place
        other.role = f"{self.role} {mark}"
        other.patience = patience
        return other

    def category(self, name: str) -> Category:
        """Return a category by slug or alias.

        Raises:
            errors.UnknownCategory: there is none of this name.
        """
        return self.registry.get(name)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - a System lives as long as its process
    def transform(self, slug: str) -> Transform:
        """Return a category's compiled transform."""
        from hal9mig.categories.transform import Transform

        return Transform(self.registry.get(slug))

    def flat(self) -> connection.Connection:
        """Open a connection to the flat store; the caller closes it."""
        return self._opened(self._urls()[0])

    def hier(self) -> connection.Connection:
        """Open a connection to the hierarchical store; the caller closes it."""
        return self._opened(self._urls()[1])

    def _urls(self) -> tuple[str, str]:
        return (
            self.settings.direct_urls() if self._own else (self.settings.require_flat(), self.settings.require_hier())
        )

    def _opened(self, url: str) -> connection.Connection:
        return connection.connect(
            url, application_name=self.role, connect_timeout=self.settings.connect_timeout, patience=self.patience,
            own=self._own,
        )  # fmt: skip

    def store(self, store: model.StoreName) -> connection.Connection:
        """Open a connection to a store; the caller closes it."""
        return self.flat() if store is model.StoreName.FLAT else self.hier()

    def require_ready(self) -> None:
        """Check that both schemas are what this program needs.

        Raises:
            errors.SchemaBehind: one is older; or the migration is finished, and capture was taken out.
            errors.Unreachable: a store does not answer.
        """
        flat, hier = self.settings.require_flat(), self.settings.require_hier()
        try:
            schema.require_current(flat, hier)
        except errors.SchemaBehind:
            ended = self.finished(schema.status(flat, hier))
            if ended is None or not ended.over:
                raise
            raise errors.SchemaBehind(
                f"The migration was finished at {ended.at:%Y-%m-%d %H:%M} UTC by {ended.actor}: nothing keeps the "
                "stores in step any more.",
                hint="a migration begins anew with: hal9-migrate db upgrade; hal9-migrate mode migration --enable",
            ) from None

    def finished(self, states: Sequence[schema.SchemaState]) -> phases.Finish | None:
        """Return when and by whom the migration was finished, where capture is not there; None where it was not.

        Args:
            states: how far each schema is.
        """
        missing = {state.name for state in states if state.current is None}
        if "hal9mig" in missing or not any(name.startswith("hal9cap") for name in missing):
            return None
        with self.ledger.begin() as session:
            return phases.finished(session)

    def require_rights(self, role: str) -> None:
        """Raise where this process's accounts lack a right of a role, all that are missing at once.

        Raises:
            errors.RightsMissing: each is named, with the GRANT that mends it.
        """
        with contextlib.closing(self.flat()) as flat, contextlib.closing(self.hier()) as hier:
            rights.require(flat, hier, self.registry.ordered(), role)
