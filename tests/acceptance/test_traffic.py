"""Real traffic from a process of its own, through every switch, with real workers; and the documented example."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hal9mig.engine.switch.switch import Switch
from hal9mig.sample import loading
from tests.support.live_traffic import Live, check, drained
from tests.support.migration_driver import Driver, connected
from tests.support.servers import ROOT, Cli, Stores

SESSIONS = "user-sessions"
Workers = Callable[..., Any]


def test_no_acknowledged_write_is_lost_from_the_flat_store_to_the_other_and_back(
    driver: Driver, cli: Cli, workers: Workers, stores: Stores, tmp_path: pathlib.Path
) -> None:
    loading.load(stores.flat_url, scale=0.0005, seed=3)
    workers(2)
    switch = Switch(driver.system, actor="test")
    live = Live(cli, tmp_path, "live.jsonl", "--writers", "4", "--hot", "3", "--existing", "50")
    plain = Live(
        cli, tmp_path, "plain.jsonl", "--bypass-client", "--seed", "2", "--existing", "0", "--category", SESSIONS,
        "--writers", "2",
    )  # fmt: skip
    live.go_on()
    switch.enable()
    runs = [driver.start(slug) for slug in driver.system.registry.categories]
    live.go_on()
    plain.go_on(20)
    for run in runs:
        driver.finish(run)
    live.go_on()
    switch.leave_flat(dict)
    live.go_on()
    # Killed with writes in flight, and started again on the same file.
    live.kill()
    check(cli, "live.jsonl")
    live = Live(cli, tmp_path, "live.jsonl", "--writers", "4", "--hot", "3", "--existing", "50")
    live.go_on()
    switch.return_to_flat()
    live.go_on()
    plain.go_on(20)
    switch.enable()
    for run in [driver.start(slug) for slug in driver.system.registry.categories]:
        driver.finish(run)
    switch.leave_flat(dict)
    live.go_on()
    summary, beside = live.stop(), plain.stop()
    assert summary["failed"] == {}, summary["reasons"]
    assert set(beside["failed"]) <= {"WRITES_CLOSED"}, beside["reasons"]
    assert summary["operations"].keys() >= {"insert", "update", "delete", "hot put"}
    assert summary["latency_ms"]["max"] >= summary["latency_ms"]["p50"] > 0
    drained(driver)
    for name in ("live.jsonl", "plain.jsonl"):
        assert check(cli, name, "--store", "both")["records"] > 20
    for slug in driver.system.registry.categories:
        driver.assert_equal(slug)


def test_the_check_tells_what_is_missing_old_or_back_from_the_dead(
    cli: Cli, stores: Stores, tmp_path: pathlib.Path
) -> None:
    code, out, err = cli("sample-data", "traffic", "--writes", "120", "--rate", "500/s", "--category", SESSIONS)
    assert code == 0, err
    assert "Writes acknowledged: 12" in out
    file = tmp_path / "traffic.jsonl"
    last: dict[str, dict[str, Any]] = {}
    for line in map(json.loads, file.read_text().splitlines()):
        if line["state"] == "done":
            last[line["key"][0]] = line
    present = [key for key, line in last.items() if line["op"] == "put"]
    dead = next(key for key, line in last.items() if line["op"] == "delete")
    with connected(stores.flat_url) as cursor:
        cursor.execute("DELETE FROM flat.user_sessions WHERE session_id = %s", (present[0],))
        cursor.execute("UPDATE flat.user_sessions SET version = version - 1 WHERE session_id = %s", (present[1],))
        cursor.execute("UPDATE flat.user_sessions SET user_id = 'eve' WHERE session_id = %s", (present[2],))
        cursor.execute(
            "INSERT INTO flat.user_sessions SELECT %s, user_id, 'risen', ip_address, user_agent, active, data, "
            "created_at, last_seen_at, expires_at, version FROM flat.user_sessions LIMIT 1",
            (dead,),
        )
    code, out, err = cli("sample-data", "check-traffic", "traffic.jsonl", "--json")
    assert code == 3, err
    document = json.loads(out)
    assert document["problems"] == {"missing": 1, "old": 1, "resurrected": 1, "other": 1}
    assert {(one["problem"], one["key"][0]) for one in document["findings"]} == {
        ("missing", present[0]), ("old", present[1]), ("other", present[2]), ("resurrected", dead),
    }  # fmt: skip
    code, out, err = cli("sample-data", "check-traffic", "traffic.jsonl")
    assert code == 3
    assert "1 missing, 1 old, 1 resurrected, 1 other" in out
    assert present[0] in out


def test_the_same_seed_writes_the_same(cli: Cli, stores: Stores, tmp_path: pathlib.Path) -> None:
    def write(name: str) -> list[Any]:
        with connected(stores.flat_url) as cursor:
            cursor.execute("TRUNCATE flat.user_sessions, flat.configuration")
        code, _, err = cli(
            "sample-data", "traffic", "--file", name, "--writers", "1", "--writes", "60", "--rate", "500/s",
            "--category", f"{SESSIONS},configuration", "--seed", "9",
        )  # fmt: skip
        assert code == 0, err
        lines = map(json.loads, (tmp_path / name).read_text().splitlines())
        return [(line["category"], line["key"], line["op"], line["hash"]) for line in lines if line["state"] == "done"]

    one, other = write("one.jsonl"), write("other.jsonl")
    assert one == other
    assert len(one) >= 60


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("traffic", "--rate", "fast"), 2, "--rate"),
        (("traffic", "--rate", "20MB/s"), 2, "rate"),
        (("traffic", "--category", "nothing"), 2, "no category"),
        (("traffic", "--file", "no/such/folder/f"), 4, "cannot be written"),
        (("check-traffic", "none.jsonl"), 2, "cannot be read"),
    ],
)
def test_a_wrong_call_is_refused(cli: Cli, args: tuple[str, ...], code: int, says: str) -> None:
    found = cli("sample-data", *args)
    assert (found.exit_code, found.stdout) == (code, "")
    assert says in found.stderr


class Example:
    """The documented example, running."""

    def __init__(self, address: str):
        self._address = address

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a request and return its status and document."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}{path}", data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answered:
                return answered.status, _document(answered.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _document(error.read())


def _document(data: bytes) -> Any:
    return json.loads(data) if data else None


@pytest.fixture
def example(stack_env: dict[str, str]) -> Iterator[Example]:
    """The example of docs/client.md, started as the document says."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "docs" / "example" / "sessions.py"), "--port", "0"],
        env=stack_env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        yield Example(found[0])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_the_documented_example_serves_through_every_mode(driver: Driver, example: Example) -> None:
    switch = Switch(driver.system, actor="test")
    one, other = (f"/sessions/{uuid.UUID(int=number)}" for number in (1, 2))
    assert example("GET", one) == (404, None)
    for number, change in enumerate(
        (lambda: None, switch.enable, lambda: switch.leave_flat(dict), switch.return_to_flat)
    ):
        change()
        mode = example("GET", "/mode")[1]["mode"]
        status = 201 if number == 0 else 200
        for address in (one, other):
            assert example("PUT", address, {"user": "dave", "data": {"n": number}})[0] == status
        assert example("GET", one)[1]["data"] == {"n": number}
        before = example("GET", one)[1]["token"], example("GET", other)[1]["token"]
        assert example("POST", f"{one}/token{other.removeprefix('/sessions')}") == (204, None)
        assert (example("GET", other)[1]["token"], example("GET", one)[1]["token"]) == before
        assert [record["user"] for record in example("GET", "/sessions")[1]] == ["dave"] * 2
        assert example("GET", f"/sessions?after={uuid.UUID(int=2)}") == (200, [])
        assert example("GET", "/report")[0] == (503 if mode == "dual-write" else 200)
        assert example("PUT", one, {"data": {}})[0] == 400
        assert example("PUT", "/sessions/no-uuid", {"user": "x"})[0] == 400
        assert example("DELETE", one) == (204, None)
        assert example("DELETE", one) == (404, None)
        assert example("PUT", one, {"user": "dave"})[0] == 201
