"""A test's stores with a client, a switch, and somebody who follows the journals; and records to write."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Mapping
from typing import Any

import psycopg2

from hal9mig import client, settings
from hal9mig.client import Json
from hal9mig.client.values import Record
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.system import System
from hal9mig.engine.transfer import applier, follower
from hal9mig.model import StoreName
from hal9mig.stores import write_mode
from hal9mig.stores.write_mode import Mode
from tests.support import comparison, servers

SESSIONS, NEURONS, CONFIGURATION = "user-sessions", "neuron-states", "configuration"
NOW = datetime.datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=datetime.UTC)


class World:
    """A test's stores with a client, a switch, and somebody who follows the journals."""

    def __init__(self, stores: servers.Stores, environ: Mapping[str, str] | None = None):
        self.stores = stores
        env = {
            "HAL9_FLAT_URL": stores.flat_url,
            "HAL9_HIER_URL": stores.hier_url,
            "HAL9_REDIS_URL": stores.redis_url,
            "HAL9_QUEUE_PREFIX": stores.queue_prefix,
        }
        self.system = System(settings.load(environ=env | dict(environ or {})), role="test")
        self.switch = Switch(self.system, actor="test")
        self.client = client.connect(self.system.settings, patience=20)

    def close(self) -> None:
        self.client.close()
        self.system.ledger.close()

    def side(self, side: StoreName) -> str:
        return self.stores.flat_url if side is StoreName.FLAT else self.stores.hier_url

    def migrate(self) -> None:
        """Bring over what there is."""
        flat = self.system.flat()
        for category in self.system.registry.ordered():
            keys = list(comparison.flat_rows(self.stores, category))
            assert not applier.apply(self.system.ledger, flat, self.system.transform(category.slug), keys).rejected
        flat.close()

    def go(self, mode: Mode) -> None:
        """Switch, by way of dual-write."""
        if mode is Mode.FLAT_ONLY:
            return
        self.switch.enable()
        if mode is Mode.HIERARCHICAL_ONLY:
            self.migrate()
            self.leave_flat()

    def leave_flat(self) -> None:
        self.switch.leave_flat(dict)

    def follow(self) -> None:
        """Apply the ruling store's journal until it is empty."""
        flat, hier = self.system.flat(), self.system.hier()
        try:
            side = write_mode.state(hier).mode.ruling
            hier.rollback()
            assert follower.follow(self.system, flat, hier, side, seconds=60).emptied
        finally:
            flat.close()
            hier.close()

    def assert_equal(self, *slugs: str) -> None:
        for slug in slugs or self.system.registry.categories:
            comparison.assert_equal(self.stores, self.system.category(slug))

    def sql(self, side: StoreName, *statements: str) -> list[Any]:
        """Run statements in one transaction, and return the rows of the last one."""
        connection = psycopg2.connect(self.side(side))
        try:
            with connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


def session(number: int = 1, **more: Any) -> Record:
    return {
        "session_id": str(uuid.UUID(int=number)),
        "user_id": "dave",
        "token_hash": f"token {number}",
        "ip_address": "2001:db8::1",
        "user_agent": None,
        "active": True,
        "data": {"n": number, "list": [decimal.Decimal("1.50"), None, "大輔"], "big": 10**40},
        "created_at": NOW,
        "last_seen_at": NOW,
        "expires_at": "infinity",
    } | more


def neuron(number: int = 1, **more: Any) -> Record:
    return {
        "neuron_id": str(uuid.UUID(int=number)),
        "layer": "substrate",
        "neuron_type": "sensor",
        "activation": -0.0,
        "weights": [float("inf"), -0.0, 0.1, 3.4e38],
        "biases": [],
        "learning_rate": 0.1,
        "momentum": None,
        "connections": [{"target": str(uuid.UUID(int=9)), "weight": decimal.Decimal("0.25"), "conn_type": "lateral"}],
        "memory": Json("null"),
        "context": None,
        "avg_response_time": 1e-40,
        "is_async": True,
        "created_at": NOW,
        "updated_at": NOW,
    } | more


def setting(key: str = "a.b", value: Any = "x", **more: Any) -> Record:
    return {"key": key, "value": value, "updated_by": "me", "updated_at": NOW} | more
