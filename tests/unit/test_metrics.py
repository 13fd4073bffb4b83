"""What monitoring reads, and what alerts and panels make of it: each figure they name is told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from hal9mig import errors
from hal9mig.dashboard import metrics
from hal9mig.dashboard.overview import Figures, Overview, Server
from hal9mig.dashboard.reader import Away
from hal9mig.ledger.pace import Felt, Pace
from hal9mig.ledger.totals import Reconciled, Totals, Work
from tests.support.servers import ROOT
from tests.unit.overviews import made

RULES = ROOT / "config" / "prometheus" / "rules.yml"
PAGE = ROOT / "docs" / "metrics.md"
_HEAD = "| metric | kind | labels | |"
_NAME = re.compile(r"\bhal9_\w+")

FIGURES = Figures(
    felt=Pace(now=Felt(), quiet=Felt(), share=1, reason="", age=1, quiet_age=1),
    totals=Totals(
        work=[Work(kind="migrate", category="metadata", records=9, quarantined=1, bytes=10, busy_seconds=2)],
        ended={("verify", "failed"): 1},
        reconciled=Reconciled(rounds=3, failed=1, compared=9, found=1, repaired=1),
    ),
)


def told(found: Overview | Away) -> dict[str, Any]:
    """Return the families of an answer by name."""
    beside = FIGURES if isinstance(found, Overview) else found
    families = text_string_to_metric_families(metrics.text(found, beside).decode())
    return {one.name: one for one in families}


def names(found: Overview) -> set[str]:
    """Return the names of all samples, as an expression has them."""
    return {f"{one.name}_total" if one.type == "counter" else one.name for one in told(found).values()}


def table() -> str:
    """Return the page's table."""
    lines = [_HEAD, "|---|---|---|---|"]
    for one in told(made()).values():
        name = f"{one.name}_total" if one.type == "counter" else one.name
        labels = sorted({label for sample in one.samples for label in sample.labels})
        lines.append(f"| `{name}` | {one.type} | {', '.join(labels)} | {one.documentation} |")
    return "\n".join(lines) + "\n"


def test_a_figure_is_what_the_page_shows() -> None:
    found = told(made(text="plain"))
    assert [(one.labels, one.value) for one in found["hal9_write_mode"].samples if one.value] == [
        ({"mode": "dual-write"}, 1.0)
    ]
    assert {one.labels["store"]: one.value for one in found["hal9_journal_records"].samples} == {
        "flat": 3.0, "hierarchical": 0.0
    }  # fmt: skip
    assert [one.value for one in found["hal9_up"].samples] == [1.0]


def test_what_has_not_happened_yet_is_told_as_nothing() -> None:
    """An alert on what rises sees no first time of what was not there before."""
    ended = {tuple(one.labels.values()): one.value for one in told(made())["hal9_runs_ended"].samples}
    assert (ended["migrate", "failed"], ended["verify", "failed"]) == (0.0, 1.0)
    held = {one.labels["category"]: one.value for one in told(made())["hal9_run_quarantined"].samples}
    assert held == {"metadata": 1.0, "neuron-states": 0.0}


def test_any_text_may_be_in_a_label() -> None:
    text = 'a "quoted" \\ and\nbroken name'
    found = told(made(text=text))
    assert [one.labels["alarm"] for one in found["hal9_alarms"].samples] == [text]


def test_of_a_ledger_that_is_away_nothing_is_told_but_that() -> None:
    found = told(Away(error=errors.StoreUnreachable(), servers=[Server(name="queue", trouble="")]))
    assert set(found) == {"hal9_build_info", "hal9_up", "hal9_server_up"}
    assert [one.value for one in found["hal9_up"].samples] == [0.0]


def expressions() -> Iterator[str]:
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    board = json.loads((ROOT / "config" / "grafana" / "hal9-migrate.json").read_text(encoding="utf-8"))
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])


@pytest.mark.parametrize("expression", [*expressions()])
def test_alerts_and_panels_name_what_is_told(expression: str) -> None:
    used = set(_NAME.findall(expression))
    assert used
    assert used <= names(made())


def test_every_alert_says_what_and_what_next() -> None:
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            assert set(rule["annotations"]) == {"summary", "next"}, rule["alert"]
            assert rule["labels"]["severity"] in ("critical", "warning", "info")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here (it comes with Prometheus)")
def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_has_every_metric() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(_HEAD) :] == table(), "write it anew: python -m tests.unit.test_metrics"


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").partition(_HEAD)[0] + table(), encoding="utf-8")
