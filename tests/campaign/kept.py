"""What a checkpoint has to bring back: every record as it was, but for those that were written since."""

from __future__ import annotations

import datetime
import pathlib

from hal9mig.sample import traffic_log
from tests.campaign.site import Site
from tests.support import comparison


def kept(site: Site) -> dict[str, dict[comparison.Key, bytes]]:
    """Return every record of every category, of both stores, which have to be alike."""
    found = {}
    for slug in site.driver.system.registry.categories:
        category = site.driver.system.category(slug)
        found[slug] = comparison.flat_rows(site.stores, category)
        assert found[slug] == comparison.hierarchical_rows(site.stores, category), slug
    return found


def last_writes(folder: pathlib.Path) -> dict[tuple[str, comparison.Key], datetime.datetime]:
    """Return when each record was written last, or was to be, since the checkpoint."""
    found: dict[tuple[str, comparison.Key], datetime.datetime] = {}
    for path in (*folder.glob("replaced-*.jsonl"), *folder.glob("restored-*.jsonl")):
        for line in traffic_log.read(path):
            at, record = datetime.datetime.fromisoformat(line.at), (line.category, line.key)
            found[record] = max(at, found.get(record, at))
    return found
