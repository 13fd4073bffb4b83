"""The driver of a test's migrations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.migration_driver import Driver
from tests.support.servers import Stores


@pytest.fixture
def driver(stores: Stores, stack_env: dict[str, str]) -> Iterator[Driver]:
    """Gives orders and looks into the ledger of this test's stores."""
    made = Driver(stores, stack_env)
    yield made
    made.close()
