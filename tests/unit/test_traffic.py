"""Traffic's records, its file, and what the check makes of them; without a server."""

from __future__ import annotations

import dataclasses
import decimal
import json
import pathlib
import random
from collections.abc import Sequence
from typing import Any, cast

import pytest

from hal9mig import errors
from hal9mig.categories import registry
from hal9mig.client import Client, Json, values
from hal9mig.client.values import Record
from hal9mig.model import Key, StoreName
from hal9mig.sample import check_traffic, traffic_log, traffic_records
from hal9mig.sample.check_traffic import Checked, TrafficProblem
from hal9mig.sample.traffic_log import DELETE, DONE, FAILED, MAYBE, PUT, TrafficLog

REGISTRY = registry.builtin()
SETTING = traffic_records.CONFIGURATION


def setting(value: Any, version: int = 1, key: str = "k") -> Record:
    return {"key": key, "value": value, "updated_by": "me", "updated_at": None, "version": version}


def mark(record: Record) -> str:
    return traffic_log.fingerprint(REGISTRY.get(SETTING), record)


@dataclasses.dataclass(frozen=True)
class Place:
    side: StoreName = StoreName.FLAT


class Stores:
    """Stands for a client whose stores hold these records."""

    registry = REGISTRY

    def __init__(self, *records: Record, waiting: int = 0):
        self.records = records
        self._waiting = waiting

    def place(self) -> Place:
        return Place()

    def waiting(self) -> int:
        return self._waiting

    def fetch(self, side: StoreName, category: str, keys: Sequence[Key]) -> list[Record]:
        return [record for record in self.records if (record["key"],) in keys]


class File:
    """A file of traffic's, written line by line."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.log = TrafficLog(path)

    def begin(self, record: Record | None, *, key: str = "k", hot: bool = False) -> list[dict[str, Any]]:
        entry = {"category": SETTING, "key": [key], "op": DELETE if record is None else PUT, "hot": hot}
        return self.log.begin([entry | {"hash": None if record is None else mark(record)}])

    def put(self, record: Record, state: str = DONE, *, hot: bool = False) -> None:
        versions = [record["version"]] if state == DONE else None
        self.log.end(self.begin(record, key=record["key"], hot=hot), state, versions)

    def delete(self, state: str = DONE, *, version: int | None = 1, hot: bool = False, key: str = "k") -> None:
        self.log.end(self.begin(None, key=key, hot=hot), state, [version] if state == DONE else None)

    def check(self, *held: Record, stores: Sequence[StoreName] = (), waiting: int = 0) -> Checked:
        return check_traffic.check(self.path, cast(Client, Stores(*held, waiting=waiting)), stores)

    def problems(self, *held: Record) -> list[TrafficProblem]:
        return [finding.problem for finding in self.check(*held).findings]


@pytest.fixture
def file(tmp_path: pathlib.Path) -> File:
    return File(tmp_path / "traffic.jsonl")


def test_an_acknowledged_write_that_is_there_is_fine(file: File) -> None:
    file.put(setting("old", 1))
    file.put(setting("new", 2))
    assert file.problems(setting("new", 2)) == []


def test_what_is_missing_old_resurrected_or_anybody_elses_is_told(file: File) -> None:
    for key in "abcd":
        file.put(setting("old", 1, key))
        file.put(setting("new", 2, key))
    file.delete(key="c", version=2)
    done = file.check(setting("old", 1, "b"), setting("new", 2, "c"), setting("else", 3, "d"))
    assert {finding.key[0]: finding.problem for finding in done.findings} == {
        "a": TrafficProblem.MISSING, "b": TrafficProblem.OLD, "c": TrafficProblem.RESURRECTED,
        "d": TrafficProblem.OTHER,
    }  # fmt: skip
    assert done.count(TrafficProblem.OLD) == 1
    assert (done.keys, done.acknowledged, done.undecided) == (4, 9, 0)


def test_the_same_content_at_an_older_version_is_old(file: File) -> None:
    for version in (1, 2):
        file.put(setting("same", version))
    assert file.problems(setting("same", 1)) == [TrafficProblem.OLD]


def test_a_deleted_record_may_be_inserted_again_and_has_to_be_there_then(file: File) -> None:
    file.put(setting("one"))
    file.delete()
    assert file.problems() == []
    file.put(setting("two", 9))
    assert file.problems() == [TrafficProblem.MISSING]
    assert file.problems(setting("two", 9)) == []


def test_a_write_whose_outcome_is_unknown_may_have_happened_or_not(file: File) -> None:
    file.put(setting("sure", 1))
    file.put(setting("maybe", 2), MAYBE)
    assert file.problems(setting("sure", 1)) == file.problems(setting("maybe", 2)) == []
    assert file.problems() == [TrafficProblem.MISSING]
    file.delete(MAYBE)
    assert file.problems() == []
    # What is acknowledged after it takes its place.
    file.put(setting("later", 3))
    assert file.problems(setting("maybe", 2)) == [TrafficProblem.OLD]


def test_a_write_without_its_second_line_may_have_happened(file: File) -> None:
    file.put(setting("sure", 1))
    file.begin(setting("killed", 2))
    assert file.problems(setting("killed", 2)) == file.problems(setting("sure", 1)) == []
    assert file.check(setting("sure", 1)).maybe == 1
    # Another run went on with the same file.
    File(file.path).put(setting("after", 3))
    assert file.problems(setting("killed", 2)) == [TrafficProblem.OLD]


def test_a_write_that_was_not_made_must_not_be_there(file: File) -> None:
    file.put(setting("sure", 1))
    file.put(setting("refused", 2), FAILED)
    assert file.problems(setting("refused", 2)) == [TrafficProblem.OTHER]
    assert file.check(setting("sure", 1)).failed == 1


def test_of_a_hot_keys_writes_that_went_on_together_the_one_of_the_highest_version_was_the_last(file: File) -> None:
    second = file.begin(setting("second", 2), hot=True)
    file.put(setting("third", 3), hot=True)
    file.log.end(second, DONE, [2])
    assert file.problems(setting("third", 3)) == []
    assert file.problems(setting("second", 2)) == [TrafficProblem.OLD]
    file.delete(version=3, hot=True)
    assert file.problems() == []
    assert file.problems(setting("third", 3)) == [TrafficProblem.RESURRECTED]
    # A deletion that found nothing says nothing.
    file.put(setting("fourth", 4), hot=True)
    file.delete(version=None, hot=True)
    assert file.problems(setting("fourth", 4)) == []


def test_a_hot_key_that_comes_back_after_the_clock_was_put_back_is_no_older_record(file: File) -> None:
    file.put(setting("before", 9_000_000), hot=True)
    file.delete(version=9_000_000, hot=True)
    file.put(setting("after", 2_000_000), hot=True)
    assert file.problems(setting("after", 2_000_000)) == []
    assert file.problems() == [TrafficProblem.MISSING]
    assert file.problems(setting("before", 9_000_000)) == [TrafficProblem.OLD]


def test_where_the_clock_was_put_back_in_the_middle_of_two_writes_either_may_be_the_last(file: File) -> None:
    back = file.begin(setting("after", 2_000_000), hot=True)
    file.delete(version=9_000_000, hot=True)
    file.log.end(back, DONE, [2_000_000])
    assert file.problems(setting("after", 2_000_000)) == []
    assert file.problems() == []
    assert file.problems(setting("other", 2_000_000)) == [TrafficProblem.RESURRECTED]


def test_half_a_line_is_passed_over_and_the_next_run_begins_a_new_one(file: File) -> None:
    file.put(setting("sure", 1))
    with file.path.open("a") as half:
        half.write('{"run": "x", "n": 7, "categ')
    File(file.path).put(setting("after", 2))
    assert file.problems(setting("after", 2)) == []


def test_a_check_that_would_compare_nothing_is_refused(file: File, tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.Refused, match="nothing to compare"):
        file.check()
    with pytest.raises(errors.UsageError, match="cannot be read"):
        check_traffic.check(tmp_path / "none", cast(Client, Stores()))
    (tmp_path / "other").write_text("hello\n")
    with pytest.raises(errors.UsageError, match="no file that"):
        check_traffic.check(tmp_path / "other", cast(Client, Stores()))


def test_both_stores_are_compared_only_with_empty_journals(file: File) -> None:
    file.put(setting("sure", 1))
    with pytest.raises(errors.Refused, match="3 writes wait"):
        file.check(setting("sure", 1), stores=tuple(StoreName), waiting=3)
    assert len(file.check(setting("no", 1), stores=tuple(StoreName)).findings) == 2


@pytest.mark.parametrize("slug", traffic_records.CATEGORIES)
def test_records_follow_from_the_seed_and_have_every_column(slug: str) -> None:
    def make(seed: str) -> list[Record]:
        rng = random.Random(seed)
        records = [
            traffic_records.made(slug, traffic_records.fresh_key(slug, "1:0", n), rng, ["neuron"]) for n in range(20)
        ]
        return [*records, *(traffic_records.changed(slug, record, rng, ["neuron"]) for record in records)]

    category = REGISTRY.get(slug)
    marks = [traffic_log.fingerprint(category, record) for record in make("a")]
    assert marks == [traffic_log.fingerprint(category, record) for record in make("a")]
    assert len(set(marks)) == 40
    assert marks != [traffic_log.fingerprint(category, record) for record in make("b")]
    for record in make("a"):
        assert set(record) == set(category.source.names) - {"version"}


def test_fingerprints_know_what_is_the_same_value() -> None:
    neuron = {
        column.name: None for column in REGISTRY.get(traffic_records.NEURONS).source.columns
    } | {"weights": [0.1], "memory": {"a": 1.5}}  # fmt: skip

    def mark_of(**more: Any) -> str:
        return traffic_log.fingerprint(REGISTRY.get(traffic_records.NEURONS), neuron | more)

    # As written, and as read back.
    assert mark_of() == mark_of(weights=[0.10000000149011612], version=7)
    assert mark_of() == mark_of(memory={"a": decimal.Decimal("1.50")})
    assert mark_of(activation=0.0) != mark_of(activation=-0.0)
    assert mark_of(activation=float("nan")) == mark_of(activation=float("nan"))
    assert mark_of(memory=None) != mark_of(memory=Json("null"))
    assert mark_of(memory="1") != mark_of(memory=1)


def test_the_file_is_one_json_line_before_each_write_and_one_after_it(file: File) -> None:
    file.put(setting("one", 5))
    before, after = [json.loads(line) for line in file.path.read_text().splitlines()]
    assert (before["state"], before["version"], after["state"], after["version"]) == ("begun", None, "done", 5)
    assert {**before, **after} == after
    assert {"n", "category", "key", "op", "hash", "at"} <= set(after)


def test_values_go_out_as_texts_that_lose_nothing() -> None:
    for value, kind, expected in (
        (-0.0, "real", "-0.0"),
        (float("-inf"), "double precision", "-Infinity"),
        (float("nan"), "real", "NaN"),
        (True, "boolean", "true"),
        ([1, None, [2]], "integer[]", ["1", None, ["2"]]),
        ("infinity", "timestamptz", "infinity"),
        ({"a": decimal.Decimal("1.10")}, "jsonb", '{"a":1.10}'),
        ("text", "jsonb", '"text"'),
        (Json("null"), "jsonb", "null"),
        (None, "jsonb", None),
    ):
        assert values.parameter(value, kind) == expected
    for wrong, kind in (
        ("a\0", "text"),
        ("\ud800", "text"),
        ({"a": 1}, "text"),
        (float("nan"), "jsonb"),
        (object(), "json"),
    ):
        with pytest.raises(errors.InvalidRecord):
            values.parameter(wrong, kind)
