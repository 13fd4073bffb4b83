"""The built-in categories: what they declare, and their transforms."""

from __future__ import annotations

import json
import re
import struct
import uuid
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9mig import errors
from hal9mig.categories import configuration, learning, metadata, neurons, registry, sessions, transform
from hal9mig.categories.declaration import Category, Role

BUILTIN = registry.builtin().ordered()

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("category", BUILTIN, ids=lambda category: category.slug)
class TestDeclarations:
    def test_a_transform_can_be_compiled(self, category: Category) -> None:
        built = transform.Transform(category)
        assert [set(writer.columns) for writer in built.writers] == [set(target.names) for target in category.targets]

    def test_every_owned_table_is_read_by_its_key_in_the_rebuild(self, category: Category) -> None:
        for target in category.owned:
            aliases = re.findall(rf"{target.qualified}(?: AS (\w+))?\s", category.rebuild)
            assert aliases, f"{target.qualified} is not read"
            for alias in aliases:
                owner = ", ".join(f"{alias or target.table}.{name}" for name in target.owner)
                assert f"RANGE({owner})" in category.rebuild

    def test_the_owner_leads_the_key_of_every_part(self, category: Category) -> None:
        # Otherwise reading a record's parts could not use the primary key's index.
        for target in category.owned:
            assert target.key[: len(target.owner)] == target.owner

    def test_roots_keep_the_version_in_their_version_column(self, category: Category) -> None:
        for root in category.roots:
            assert root.version == "source_version"
            assert root.version in root.names


def test_the_categories_are_those_of_the_runbook() -> None:
    assert [category.slug for category in BUILTIN] == [
        "user-sessions", "neuron-states", "learning-data", "configuration", "metadata",
    ]  # fmt: skip
    assert [category.line for category in BUILTIN] == [
        "User Sessions", "Neuron States", "Learning Data", "Configuration", "Metadata",
    ]  # fmt: skip
    assert [category.order for category in BUILTIN] == [1, 2, 3, 4, 5]
    assert registry.builtin().get("metadata").title == "Operational Metadata"
    assert registry.builtin().get("configuration").atomic
    assert not any(category.ordered for category in BUILTIN)


class TestSessions:
    @given(st.dictionaries(names, values, max_size=5))
    def test_attributes_join_to_the_same_object(self, data: dict[str, Any]) -> None:
        rows = list(sessions.attributes(json.dumps(data, ensure_ascii=False).encode()))
        assert {name: json.loads(value) for name, value in rows} == data

    @pytest.mark.parametrize(
        "text", ["123456789012345678901234567890.12345678901234567890", "1e400", "1.500", "-0.0", '"\\u2028"', "[ 1]"]
    )
    def test_a_value_stays_the_text_it_was(self, text: str) -> None:
        assert list(sessions.attributes(f'{{"a": {text}}}'.encode())) == [("a", text.encode())]

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            (b"[]", "no JSON object"),
            (b"null", "no JSON object"),
            (json.dumps({"n" * 2601: 1}).encode(), "longer than 2600 bytes"),
            (json.dumps({"\N{SNOWMAN}" * 900: 1}, ensure_ascii=False).encode(), "longer than 2600 bytes"),
            (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "no JSON object"),
        ],
        ids=["array", "null", "long name", "long name of wide letters", "too deep"],
    )
    def test_what_the_target_cannot_hold_is_rejected(self, data: bytes, sentence: str) -> None:
        with pytest.raises(errors.RecordRejected, match=sentence):
            list(sessions.attributes(data))


class TestNeurons:
    @given(
        st.lists(
            st.fixed_dictionaries(
                {
                    "target": st.uuids().map(str),
                    "weight": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
                    "conn_type": names,
                }
            ),
            max_size=5,
        )
    )
    def test_connections_keep_order_and_values(self, listed: list[dict[str, Any]]) -> None:
        rows = list(neurons.connections(json.dumps(listed).encode()))
        assert [row[0] for row in rows] == list(range(1, len(listed) + 1))
        assert [dict(zip(("target", "conn_type", "weight"), row[1:4], strict=True)) for row in rows] == listed

    @pytest.mark.parametrize(
        ("given", "exact"),
        [
            ("0.5", None), ("-0.476557", None), ("1", None), ("0", None), ("90071992547409930", "90071992547409930"),
            ("1.0", "1.0"), ("0.50", "0.50"), ("0.0", "0.0"), ("0.12345678901234567890", "0.12345678901234567890"),
            ("0.00001", None), ("1" + "0" * 22, None), ("0.30000000000000004", None),
            ("123456789012.345", None), ("123456789012.3456", None),
        ],
    )  # fmt: skip
    def test_a_weight_that_its_double_would_change_is_kept_exactly(self, given: str, exact: str | None) -> None:
        text = f'[{{"target": "{uuid.UUID(int=1)}", "weight": {given}, "conn_type": "forward"}}]'
        ((_, _, _, weight, kept),) = neurons.connections(text.encode())
        assert weight == float(given)
        assert (None if kept is None else str(kept)) == exact

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"target": None}, "no list of"),
            ({"weight": "0.5"}, "no list of"),
            ({"weight": True}, "no list of"),
            ({"weight": None}, "no list of"),
            ({"conn_type": 1}, "no list of"),
            ({"delay": 3}, "unknown field `delay`"),
        ],
        ids=str,
    )
    def test_what_would_not_come_back_is_rejected(self, change: dict[str, Any], sentence: str) -> None:
        connection = {"target": str(uuid.UUID(int=1)), "weight": 0.5, "conn_type": "forward", **change}
        with pytest.raises(errors.RecordRejected, match=sentence):
            neurons.connections(json.dumps([connection]).encode())

    @pytest.mark.parametrize("missing", ["target", "weight", "conn_type"])
    def test_a_missing_member_is_rejected(self, missing: str) -> None:
        connection = {"target": str(uuid.UUID(int=1)), "weight": 0.5, "conn_type": "forward"}
        del connection[missing]
        with pytest.raises(errors.RecordRejected, match=f"missing required field `{missing}`"):
            neurons.connections(json.dumps([connection]).encode())

    @pytest.mark.parametrize("listed", [b"{}", b"null", b'"x"', b"[1]", b"[[]]"])
    def test_what_is_no_list_of_objects_is_rejected(self, listed: bytes) -> None:
        with pytest.raises(errors.RecordRejected):
            neurons.connections(listed)

    def test_a_weight_beyond_a_double_is_rejected(self) -> None:
        text = f'[{{"target": "{uuid.UUID(int=1)}", "weight": 1{"0" * 400}, "conn_type": "forward"}}]'
        with pytest.raises(errors.RecordRejected, match="out of range"):
            neurons.connections(text.encode())

    def test_no_momentum_can_be_told_from_the_default(self) -> None:
        assert neurons.momentum(None) == neurons.DEFAULT_MOMENTUM
        assert not neurons.momentum_given(None)
        assert neurons.momentum_given(struct.pack("!f", 0.9))


# MessagePack's numbers have 64 bits.
states = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=20) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
gradient_lists = st.lists(st.tuples(names, st.binary(max_size=300)), max_size=20)


class TestLearning:
    @given(gradient_lists, states)
    def test_packing_is_what_the_reference_implementation_gives(self, listed: list[Any], state: Any) -> None:
        reference = msgpack.packb({"gradients": listed, "optimiser": state})
        gradients, optimiser = learning.unpack(reference)
        assert gradients == listed
        assert optimiser == msgpack.packb(state)
        assert learning.pack(gradients, optimiser) == reference

    @given(gradient_lists)
    def test_gradients_keep_order_and_bytes(self, listed: list[tuple[str, bytes]]) -> None:
        payload = learning.pack(listed, msgpack.packb(None))
        assert [(name, data) for _, name, data in learning.gradients(payload)] == listed
        assert [ordinal for ordinal, _, _ in learning.gradients(payload)] == list(range(1, len(listed) + 1))

    def test_no_payload_has_no_gradients_and_no_optimiser(self) -> None:
        assert list(learning.gradients(None)) == []
        assert learning.optimiser(None) is None

    def test_an_optimiser_that_is_nothing_is_not_no_payload(self) -> None:
        assert learning.optimiser(learning.pack([], msgpack.packb(None))) == b"\xc0"

    def test_an_optimisers_own_encoding_is_kept(self) -> None:
        long_one = b"\xcf" + (1).to_bytes(8)
        assert learning.optimiser(learning.pack([], long_one)) == long_one

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"\xc1",
            msgpack.packb(None),
            msgpack.packb({"gradients": []}),
            msgpack.packb({"optimiser": 1, "gradients": []}),
            msgpack.packb({"gradients": [], "optimiser": 1, "more": 1}),
            msgpack.packb({"gradients": [["w", "text"]], "optimiser": 1}),
            msgpack.packb({"gradients": [["w", b"", b""]], "optimiser": 1}),
            msgpack.packb({"gradients": [], "optimiser": 1}) + b"\0",
            msgpack.packb({"gradients": [["w", b""]], "optimiser": 1})[:-1],
            # The same content in longer heads: an array of 16 bits, and a str of 8.
            b"\x82\xa9gradients\xdc\0\0\xa9optimiser\xc0",
            b"\x82\xa9gradients\x90\xd9\x09optimiser\xc0",
            b"\x82\xa9gradients\x91\x92\xa1\xff\xc4\0\xa9optimiser\xc0",
        ],
    )
    def test_what_could_not_be_rebuilt_is_rejected(self, payload: bytes) -> None:
        with pytest.raises(errors.RecordRejected):
            learning.optimiser(payload)

    def test_a_name_with_a_zero_byte_is_rejected(self) -> None:
        with pytest.raises(errors.RecordRejected, match="gradient 2 holds a zero byte"):
            learning.gradients(learning.pack([("w", b""), ("a\0b", b"")], b"\xc0"))

    def test_gradients_follow_from_the_stated_loss(self) -> None:
        pattern, outputs, gain, target = [0.5, -1.0, 2.0, 0.25], 2, 0.5, 1

        def loss(weight: list[list[float]], bias: list[float]) -> float:
            made = [
                sum(w * x for w, x in zip(row, pattern, strict=True)) + b for row, b in zip(weight, bias, strict=True)
            ]
            return 0.5 * sum((y - (place == target)) ** 2 for place, y in enumerate(made))

        weight = [[gain if place % outputs == row else 0.0 for place in range(4)] for row in range(outputs)]
        step, bias = 1e-6, [0.0, 0.0]
        numeric = []
        for row in range(outputs):
            for place in range(4):
                moved = [list(line) for line in weight]
                moved[row][place] += step
                numeric.append((loss(moved, bias) - loss(weight, bias)) / step)
        expected = learning.linear_gradients(pattern, outputs=outputs, gain=gain, target=target)
        assert struct.unpack("<8f", expected["weight"]) == pytest.approx(numeric, abs=1e-4)
        for row, value in enumerate(struct.unpack("<2f", expected["bias"])):
            moved_bias = [step if row == place else 0.0 for place in range(2)]
            assert value == pytest.approx((loss(weight, moved_bias) - loss(weight, bias)) / step, abs=1e-4)


class TestConfiguration:
    @given(st.text(st.sampled_from("ab.é"), max_size=12))
    def test_nodes_lead_from_the_root_to_the_key(self, key: str) -> None:
        nodes = list(configuration.nodes(key.encode()))
        assert nodes[-1][0] == key
        assert ".".join(name for _, _, name, _ in nodes) == key
        assert [parent for _, parent, _, _ in nodes] == [None, *(path for path, _, _, _ in nodes[:-1])]
        assert [depth for _, _, _, depth in nodes] == list(range(1, len(nodes) + 1))

    def test_different_keys_never_share_a_leaf(self) -> None:
        keys = ["", ".", "..", "a", "a.", ".a", "a..b", "a.b"]
        nodes: dict[str, tuple[str, str | None, str, int]] = {}
        for key in keys:
            for node in configuration.nodes(key.encode()):
                # The same path is the same node, whichever key it comes from.
                assert nodes.setdefault(node[0], node) == node


class TestAuditChain:
    @staticmethod
    def chain(length: int) -> list[tuple[int, dict[str, Any]]]:
        rows: list[tuple[int, dict[str, Any]]] = []
        previous = metadata.GENESIS
        for number in range(length):
            entry: dict[str, Any] = {"action": f"é{number}", "n": number, "prev": previous}
            entry["hash"] = previous = metadata.audit_hash(previous, entry)
            rows.append((20 * (number + 1), entry))
        return rows

    def test_a_whole_chain_is_intact(self) -> None:
        rows = self.chain(5)
        found = metadata.verify_audit_chain(rows)
        assert (found.entries, found.intact, found.head) == (5, True, rows[-1][1]["hash"])
        assert metadata.verify_audit_chain((number, json.dumps(entry)) for number, entry in rows).intact
        assert metadata.verify_audit_chain([]).head == metadata.GENESIS

    @pytest.mark.parametrize(
        ("damage", "broken"),
        [
            (lambda rows: rows[2][1].update(action="x"), (60,)),
            (lambda rows: rows[2][1].update(hash="0" * 64), (60, 80)),
            (lambda rows: rows[2][1].pop("hash"), (60, 80)),
            (lambda rows: rows.pop(2), (80,)),
            (lambda rows: rows.insert(3, rows[2]), (60,)),
            (lambda rows: rows.__setitem__(2, (60, [])), (60, 80)),
            (lambda rows: rows.reverse(), (100, 80, 60, 40, 20)),
        ],
    )
    def test_every_damage_is_found_where_it_is(
        self, damage: Callable[[list[tuple[int, Any]]], object], broken: tuple[int, ...]
    ) -> None:
        rows = self.chain(5)
        damage(rows)
        assert metadata.verify_audit_chain(rows).broken == broken


def test_every_root_of_metadata_takes_one_type() -> None:
    category = registry.builtin().get("metadata")
    assert all(target.role is Role.ROOT for target in category.targets)
    assert {target.when for target in category.targets} == {("type", kind) for kind in metadata.TABLES}
