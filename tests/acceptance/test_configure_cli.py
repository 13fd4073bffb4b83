"""The tuning plane as an operator sees it: what is set, what it comes to, and where each value is from."""

from __future__ import annotations

from tests.support import servers
from tests.support.live_state import execute


class TestConfiguring:
    """The tuning plane from the command line."""

    def test_it_merges_says_what_it_means_and_warns(self, cli: servers.Cli, stores: servers.Stores) -> None:
        cli.run("sample-data", "load", "--scale", "0.001", "--category", "neuron-states")
        # As large as HAL9's own, as far as the statistics know.
        execute(
            stores.flat_cluster.admin_url(f"flat_{stores.name}"),
            "UPDATE pg_class SET reltuples = 1000000 WHERE oid = 'flat.neuron_states'::regclass",
        )
        told = cli.run(
            "configure", "state-migration", "--batch-size", "1000", "--rate-limit", "100/s", "--parallel-workers", "4",
            "--validation-mode", "strict",
        )  # fmt: skip
        rows = {line.split("\t")[0]: line.split("\t")[1] for line in told.stdout.splitlines() if "\t" in line}
        assert (rows["batch-size"], rows["rate-limit"], rows["parallel-workers"]) == ("1000", "100/s", "4")
        assert "A batch is 100 records, one second of the budget." in told.stdout.splitlines()
        assert "neuron-states: about 1,000,000 records in 2h46m at 100/s" in told.stdout.splitlines()
        assert "warning: neuron-states takes 2h46m at 100/s, longer than the 2h00m planned for it" in told.stderr
        assert "warning: parallel-workers is 4, but only 0 worker slots are alive" in told.stderr

        cli.run("configure", "state-migration", "--rate-limit", "50/s")
        cli.run("configure", "state-migration", "--batch-size", "5", "--rate-limit", "-1/s", code=2)
        values = {one["name"]: one for one in cli.document("configure", "state-migration")["values"]}
        assert {name: one["value"] for name, one in values.items()} == {
            "batch-size": "1000", "rate-limit": "50/s", "parallel-workers": "4", "validation-mode": "strict",
            "checkpoint-interval": "2500", "batch-bytes": "8MB", "quarantine-policy": "0",
            "max-impact": "off", "max-replica-lag": "10s", "impact-query": "off",
        }  # fmt: skip
        assert values["batch-bytes"]["origin"] == "default"
        assert "@" in values["rate-limit"]["origin"]
        assert execute(stores.hier_url, "SELECT count(*) FROM hal9mig.events WHERE action = 'configure'")[0][0] == 2

    def test_settings_with_their_origin_and_without_secrets(self, cli: servers.Cli) -> None:
        told = cli.run("configure", "show", "--origin", env={"HAL9_FLOWER_AUTH": "me:geheim"})
        rows = {line.split("\t")[0]: line.split("\t") for line in told.stdout.splitlines()}
        assert rows["SETTING"][:3] == ["SETTING", "VALUE", "ORIGIN"]
        assert "***" in rows["stores.flat_url"][1]
        assert rows["stores.flat_url"][2] == "environment HAL9_FLAT_URL"
        assert rows["lease.duration"][1] == "3s"
        assert rows["stack.flower_auth"][1] == "***"
        assert "geheim" not in told.stdout
