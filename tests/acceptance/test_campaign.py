"""One short round of the fault campaign; ``make campaign`` goes through many, as far as the way back."""

from __future__ import annotations

import pathlib

import pytest

from tests.campaign import round as campaign_round
from tests.support.servers import Stores


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_migration_under_traffic_in_a_storm_of_accidents_loses_nothing(
    stores: Stores, tmp_path: pathlib.Path
) -> None:
    done = campaign_round.go(stores, tmp_path, seed=4, short=True)
    assert done.writes
    assert done.mode == "hierarchical-only"
    assert done.happened.total() > 3
