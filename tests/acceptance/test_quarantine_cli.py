"""Quarantine as an operator sees it: what is held, tried again, released, gone and dropped."""

from __future__ import annotations

from collections.abc import Callable

from tests.support import servers
from tests.support.live_state import execute

Workers = Callable[..., list[servers.Running]]


class TestQuarantine:
    """Records that cannot be migrated."""

    def test_from_held_to_released_gone_and_dropped(
        self, cli: servers.Cli, workers: Workers, stores: servers.Stores
    ) -> None:
        cli.run("sample-data", "load", "--scale", "0.001", "--category", "learning-data")
        execute(
            stores.flat_url,
            "CREATE TABLE kept AS SELECT pattern_id, payload FROM flat.learning_data ORDER BY 1 LIMIT 4; "
            "UPDATE flat.learning_data SET payload = 'xx', version = version + 1 "
            "WHERE pattern_id IN (SELECT pattern_id FROM kept)",
        )
        workers(1)
        told = cli.run("state", "migrate", "--category", "learning-data", code=3)
        assert told.stdout.startswith("❌ learning-data: succeeded; 996 of 1,000 records")
        assert "4 records of learning-data could not be migrated" in told.stderr
        assert "hint: hal9-migrate quarantine list --category learning-data" in told.stderr

        records = cli.document("quarantine", "list")["records"]
        assert len(records) == 4
        fixed, gone, broken, dropped = (record["id"] for record in records)
        shown = cli.document("quarantine", "show", str(fixed))["record"]
        assert shown["payload"]["payload"] == "\\x7878"
        assert shown["error"]
        assert '"payload": "\\\\x7878"' in cli.run("quarantine", "show", str(fixed)).stdout
        line = cli.run("state", "verify", code=3).stdout.splitlines()[2]
        assert line.endswith("(1,000 of 1,000 migrated; 0 mismatches, 0 missing, 0 extra, 4 quarantined)")

        key = {record["id"]: record["key"][0] for record in records}
        execute(
            stores.flat_url,
            f"UPDATE flat.learning_data l SET payload = k.payload, version = version + 1 FROM kept k "
            f"WHERE l.pattern_id = k.pattern_id AND l.pattern_id = '{key[fixed]}'; "
            f"DELETE FROM flat.learning_data WHERE pattern_id = '{key[gone]}'",
        )
        refused = cli.run("quarantine", "drop", str(dropped), code=4)
        assert "hint: add --yes" in refused.stderr
        assert len(cli.document("quarantine", "list")["records"]) == 4
        assert cli.run("quarantine", "drop", str(dropped), "--yes").stdout.endswith("dropped\n")
        cli.run("quarantine", "drop", str(dropped), "--yes", code=4)

        retried = cli.document("quarantine", "retry", "--all", code=3)
        assert [(one["id"], one["outcome"]) for one in retried["records"]] == [
            (fixed, "released"), (gone, "gone"), (broken, "held"),
        ]  # fmt: skip
        held = cli.document("quarantine", "list")["records"]
        assert [(record["id"], record["attempts"]) for record in held] == [(broken, 2)]
        cli.run("quarantine", "retry", str(fixed), code=4)
        cli.run("quarantine", "show", "999", code=4)
        actions = execute(stores.hier_url, "SELECT string_agg(action, ',' ORDER BY id) FROM hal9mig.events")[0][0]
        assert actions.count("quarantine retry") == 3
        assert actions.count("quarantine drop") == 1
