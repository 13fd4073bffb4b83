"""A manifest is read as it was written, or not at all."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9mig import errors, model
from hal9mig.engine.checkpoint.manifest import CategoryDigest, Chunk, Manifest, Table
from tests.unit.manifests import chunk, manifest, table

# JSON has no lone halves of a character, and neither has PostgreSQL.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COUNTS = st.integers(0, 2**64 - 1)
KEYS = st.none() | st.lists(TEXTS, min_size=1, max_size=3).map(tuple)
MOMENTS = st.datetimes(timezones=st.just(datetime.UTC))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
CHUNKS = st.builds(
    Chunk, file=TEXTS, after=KEYS, upto=KEYS, rows=COUNTS, digest=COUNTS, sha256=TEXTS, raw_bytes=COUNTS, bytes=COUNTS,
    frames=st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), max_size=2).map(tuple),
)  # fmt: skip
NAMES = st.lists(TEXTS, max_size=2).map(tuple)
TABLES = st.builds(
    Table, store=st.sampled_from(model.StoreName), category=TEXTS, schema=TEXTS, table=TEXTS,
    columns=st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple), key=NAMES, owner=NAMES,
    role=st.sampled_from(["source", "root", "part", "shared", "ledger"]),
    chunks=st.lists(CHUNKS, max_size=2).map(tuple),
)  # fmt: skip
MANIFESTS = st.builds(
    Manifest, name=TEXTS, description=TEXTS, kind=st.sampled_from(["full", "marker"]), label=TEXTS, scope=NAMES,
    whole=st.booleans(), taken_at=MOMENTS, finished_at=MOMENTS, by=TEXTS, program=TEXTS, verified=st.booleans(),
    mode=TEXTS, epoch=COUNTS, positions=st.dictionaries(TEXTS, VALUES, max_size=3),
    schemas=st.dictionaries(TEXTS, TEXTS, max_size=2), tables=st.lists(TABLES, max_size=2).map(tuple),
    digests=st.dictionaries(
        TEXTS, st.dictionaries(TEXTS, st.builds(CategoryDigest, records=COUNTS, digest=COUNTS), max_size=2), max_size=2
    ),
)  # fmt: skip


def resealed(**changes: Any) -> str:
    """Return a manifest's text with other values and the hash that belongs to them; None takes a value out."""
    document = {**json.loads(manifest().to_text()), **changes}
    bare = {name: value for name, value in document.items() if value is not None and name != "sha256"}
    text = json.dumps(bare, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return json.dumps({**bare, "sha256": hashlib.sha256(text.encode()).hexdigest()})


class TestText:
    """The file."""

    @given(MANIFESTS)
    def test_it_comes_back(self, made: Manifest) -> None:
        assert Manifest.from_text(made.to_text()) == made

    def test_its_form_is_documented(self) -> None:
        """As docs/checkpoints.md has it: any program can read it, and check it."""
        document = json.loads(manifest().to_text())
        assert (next(iter(document)), list(document)[-1]) == ("format", "sha256")
        assert document["format"] == 1
        assert document["taken_at"] == "2026-03-01T12:00:00+00:00"
        assert document["tables"][0]["store"] == "flat"
        assert document["tables"][0]["columns"] == [["session_id", "uuid"], ["data", "jsonb"]]
        assert document["tables"][0]["chunks"][0] == {
            "file": "flat/flat.user_sessions/000001-1.copy.zst", "after": None, "upto": ["k"], "rows": 2,
            "digest": 2**64 - 1, "sha256": "0" * 64, "raw_bytes": 100, "bytes": 60, "frames": [[0, 60, 2, 7]],
        }  # fmt: skip
        assert json.loads(resealed()) == document

    def test_every_bit_counts(self) -> None:
        """Whichever is flipped: it is what was written, or it is refused."""
        made = manifest(description="ä € 𝄞 \ufffd \u2028")
        data = made.to_text().encode()
        read = refused = 0
        for place in range(len(data) * 8):
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            try:
                assert Manifest.from_text(flipped.decode("utf-8", "replace")) == made
                read += 1
            except errors.CheckpointDamaged:
                refused += 1
        # A space between two values may become another white space.
        assert refused > read * 10

    def test_cut_anywhere(self) -> None:
        text = manifest().to_text()
        for length in range(len(text) - 1):
            with pytest.raises(errors.CheckpointDamaged):
                Manifest.from_text(text[:length])

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "[]",
            "{}",
            "1",
            '"x"',
            "{",
            "NaN",
            '{"sha256": 1}',
            "[" * 100_000,
            "9" * 5000,
            '{"a": "\\ud800"}',
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(errors.CheckpointDamaged) as caught:
            Manifest.from_text(text)
        assert caught.value.exit_code == errors.EXIT_PROBLEMS

    @pytest.mark.parametrize("name", ["format", *(field.name for field in dataclasses.fields(Manifest))])
    def test_a_field_is_missing(self, name: str) -> None:
        with pytest.raises(errors.CheckpointDamaged, match=name):
            Manifest.from_text(resealed(**{name: None}))

    @pytest.mark.parametrize(
        "changes",
        [
            {"more": 1}, {"tables": 1}, {"tables": [{}]}, {"taken_at": "yesterday"}, {"taken_at": 7},
            {"digests": {"a": {"flat": {"records": 1}}}}, {"format": "1"},
        ],
    )  # fmt: skip
    def test_a_field_is_another(self, changes: dict[str, Any]) -> None:
        with pytest.raises(errors.CheckpointDamaged, match="cannot be read"):
            Manifest.from_text(resealed(**changes))

    def test_a_newer_format(self) -> None:
        with pytest.raises(errors.Refused, match="has format 2") as caught:
            Manifest.from_text(resealed(format=2, more=1))
        assert "newer" in str(caught.value.hint)


class TestSums:
    """What a manifest says of itself."""

    def test_of_its_tables(self) -> None:
        other = table(table="others", chunks=(chunk(1, rows=5, bytes=7, raw_bytes=11, digest=3),))
        made = manifest(tables=(table(), other))
        assert (made.rows, made.bytes, made.raw_bytes) == (9, 127, 211)
        assert (table().rows, table().bytes, table().raw_bytes) == (4, 120, 200)

    def test_a_digest_is_modulo_2_to_the_64(self) -> None:
        assert table().digest == 2**64 - 2
        assert table(chunks=()).digest == 0

    def test_a_table_by_its_name(self) -> None:
        made = manifest()
        assert made.table(model.StoreName.FLAT, "flat.user_sessions") is made.tables[0]
        for store, name in ((model.StoreName.HIERARCHICAL, "flat.user_sessions"), (model.StoreName.FLAT, "sessions")):
            with pytest.raises(errors.NotFound, match=name):
                made.table(store, name)

    @pytest.mark.parametrize(
        ("slugs", "covered"), [((), True), (("a",), True), (("b", "a"), True), (("a", "c"), False), (("c",), False)]
    )
    def test_covers(self, slugs: tuple[str, ...], covered: bool) -> None:
        assert manifest(scope=("a", "b")).covers(slugs) is covered

    def test_a_marker_cannot_be_restored(self) -> None:
        assert manifest().restorable
        assert not manifest(kind="marker").restorable
