"""The driver of a test's migrations, and both stores of a test while they are written to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import live_state
from tests.support.live_state import World
from tests.support.migration_driver import Driver
from tests.support.servers import Stores


@pytest.fixture
def driver(stores: Stores, stack_env: dict[str, str]) -> Iterator[Driver]:
    """Gives orders and looks into the ledger of this test's stores."""
    made = Driver(stores, stack_env)
    yield made
    made.close()


@pytest.fixture
def world(stores: Stores, stack_env: dict[str, str]) -> Iterator[World]:
    """This test's stores, and in this process all that a worker does."""
    with live_state.opened(stores, stack_env) as opened:
        yield opened
