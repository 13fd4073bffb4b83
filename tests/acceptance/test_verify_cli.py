"""Verdicts on the real command line: what a comparison of the stores finds, and how it says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import servers
from tests.support.live_state import execute

Workers = Callable[..., list[servers.Running]]


class TestDifferences:
    """What a comparison finds, and how it says so."""

    def test_each_kind_is_counted_listed_and_reported(
        self, cli: servers.Cli, workers: Workers, stores: servers.Stores, tmp_path: Any
    ) -> None:
        cli.run("sample-data", "load", "--scale", "0.001", "--category", "neuron-states,metadata")
        workers(1)
        cli.run("state", "migrate", "--category", "neuron-states,metadata")
        found = execute(stores.flat_url, "SELECT neuron_id::text FROM flat.neuron_states ORDER BY neuron_id")
        keys = [found[at][0] for at in (0, 500)]
        execute(stores.hier_url, f"UPDATE hier.units SET activation = activation + 1 WHERE unit_id = '{keys[0]}'")
        execute(stores.hier_url, f"DELETE FROM hier.units WHERE unit_id = '{keys[1]}'")
        execute(stores.flat_url, "DELETE FROM flat.operational_metadata WHERE id = 1")

        told = cli.run("state", "verify", "--category", "neuron-states,metadata", "--report", "report.json", code=3)
        neurons = "❌ Neuron States: 99.8% consistent  (1,000 of 1,000 migrated; 1 mismatch, 1 missing, 0 extra)"
        assert told.stdout.splitlines() == [
            neurons,
            "❌ Metadata: 99.8% consistent  (399 of 399 migrated; 0 mismatches, 0 missing, 1 extra)",
        ]
        assert told.stderr.splitlines()[-2:] == [
            "error: The two stores differ: neuron-states, metadata.",
            "  hint: hal9-migrate state diff --category neuron-states,metadata --verbose",
        ]
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        assert (report["consistent"], report["totals"]["mismatches"]) == (False, 1)
        assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == ["report.json"]

        totals = cli.run("state", "verify", "--category", "neuron-states", "--checksums", code=3).stdout.splitlines()
        assert totals[1:] == [
            "Total Records: 1,000", "Verified: 998 (99.8%)", "Mismatches: 1", "Missing: 1", "Extra: 0",
        ]  # fmt: skip

        plain = cli.run("state", "diff", code=3).stdout.splitlines()
        assert [line.split("\t") for line in plain] == [
            ["CATEGORY", "DIFFERENCE", "KEY", "FIELDS"],
            ["neuron-states", "mismatch", keys[0], "activation"],
            ["neuron-states", "missing", keys[1], "-"],
            ["metadata", "extra", "1", "-"],
        ]
        verbose = cli.run("state", "diff", "--systems", "flat,hierarchical", "--verbose", code=3).stdout.splitlines()
        assert verbose[0].split("\t") == ["CATEGORY", "DIFFERENCE", "KEY", "FIELD", "FLAT", "HIERARCHICAL"]
        _, _, _, field, flat, hier = verbose[1].split("\t")
        assert field == "activation"
        assert float(hier) == pytest.approx(float(flat) + 1, abs=1e-5)
        stream = cli.run("state", "diff", "--jsonl", code=3)
        kinds = [json.loads(line)["difference"] for line in stream.stdout.splitlines()]
        assert kinds == ["mismatch", "missing", "extra"]
        assert cli.document("state", "diff", code=3)["counted"] == 3

        # A run that was compared can be looked at again.
        number = execute(stores.hier_url, "SELECT max(id) FROM hal9mig.runs WHERE category = 'neuron-states'")[0][0]
        assert cli.run("runs", "show", str(number), "--watch", code=3).stdout.splitlines() == [neurons]

    def test_verdicts_without_unicode(self, cli: servers.Cli, workers: Workers) -> None:
        cli.run("sample-data", "load", "--scale", "0.001", "--category", "configuration")
        workers(1)
        told = cli.run("state", "verify", "--category", "configuration", env={"PYTHONIOENCODING": "ascii"})
        assert told.stdout == "[ok] Configuration: 100% consistent  (0 of 1 migrated)\n"
