"""Sample data: its determinism, its inner truth, and that every edge value survives the transform and back."""

from __future__ import annotations

import collections
import hashlib
import io
import itertools
import json
import struct
from collections.abc import Iterator

import pytest

from hal9mig import errors, sample
from hal9mig.categories import learning, metadata, neurons, registry, transform, wire
from hal9mig.categories.declaration import Category
from hal9mig.embedded.postgres import Cluster
from hal9mig.sample import loading, shape
from hal9mig.stores import connection, schema
from tests.support import servers

SCALE = 0.002
CATEGORIES = registry.builtin().ordered()
#: The first rows of a seed, hashed.
GOLDEN = {
    "user-sessions": "e48f1e3cf46ec9a7",
    "neuron-states": "7f99b1c1b99bda74",
    "learning-data": "a2406cd3c9e11ee1",
    "configuration": "1b2afb34b5b7ea16",
    "metadata": "2757c004e3c69bbe",
}


def ask(url: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    with connection.connected(url, application_name="test") as made, made.cursor() as cursor:
        cursor.execute(query, parameters or None)
        return cursor.fetchall()


def digests(url: str) -> dict[str, str]:
    """Return for each category a hash of all its rows, by their bytes."""
    found = {}
    for category in CATEGORIES:
        sent = io.BytesIO()
        with connection.connected(url, application_name="test") as made, made.cursor() as cursor:
            order = ", ".join(category.key)
            cursor.copy_expert(
                f"COPY (SELECT {', '.join(category.source.names)} FROM flat.{category.source.table} ORDER BY {order})"
                " TO STDOUT (FORMAT binary)",
                sent,
            )
        found[category.slug] = hashlib.sha256(sent.getvalue()).hexdigest()
    return found


@pytest.fixture(scope="module")
def loaded(databases: servers.Databases) -> Iterator[servers.Stores]:
    """Stores with sample data in them; tests only read it."""
    stores = databases.open()
    sample.load(stores.flat_url, scale=SCALE, seed=42, workers=2)
    yield stores
    databases.close(stores)


class TestDeterminism:
    def test_processes_do_not_matter_and_the_seed_does(self, loaded: servers.Stores, stores: servers.Stores) -> None:
        sample.load(stores.flat_url, scale=SCALE, seed=42, workers=1)
        first = digests(loaded.flat_url)
        assert digests(stores.flat_url) == first
        sample.load(stores.flat_url, scale=SCALE, seed=43, workers=1, replace=True)
        assert not set(digests(stores.flat_url).values()) & set(first.values())

    def test_the_data_of_a_seed_is_the_same_for_ever(self) -> None:
        # A benchmark of last year compares with one of today only while these hold.
        made = shape.Shape(scale=0.05, seed=42)
        found = {}
        for slug in shape.FULL:
            rows = loading._rows(loading._Chunk(url="", shape=made, slug=slug, number=0, previous=metadata.GENESIS))
            found[slug] = hashlib.sha256(b"".join(itertools.islice(rows, 300))).hexdigest()[:16]
        assert found == GOLDEN


class TestContent:
    def test_there_is_as_much_of_everything_as_the_scale_says(self, loaded: servers.Stores) -> None:
        for category in CATEGORIES:
            (row,) = ask(loaded.flat_url, f"SELECT count(*) FROM flat.{category.source.table}")
            assert row[0] == max(1, round(shape.FULL[category.slug] * SCALE))

    def test_a_row_is_as_large_as_the_volumes_say(self) -> None:
        made = shape.Shape(scale=1, seed=1)
        for slug, low, high in (
            ("user-sessions", 300, 500), ("neuron-states", 800, 1000), ("learning-data", 9_000, 11_000),
            ("metadata", 220, 280),
        ):  # fmt: skip
            rows = list(loading._rows(loading._Chunk(url="", shape=made, slug=slug, number=1, previous="")))
            assert low < sum(map(len, rows)) / len(rows) < high

    def test_about_sixty_percent_of_the_sessions_are_active(self, loaded: servers.Stores) -> None:
        ((share,),) = ask(loaded.flat_url, "SELECT avg(active::int)::float8 FROM flat.user_sessions")
        assert isinstance(share, float)
        assert 0.5 < share < 0.7

    def test_neurons_form_one_graph_across_five_layers(self, loaded: servers.Stores) -> None:
        rows = ask(loaded.flat_url, "SELECT neuron_id::text, layer, connections FROM flat.neuron_states")
        layer_of = {identity: layer for identity, layer, _ in rows}
        assert set(layer_of.values()) == set(neurons.LAYERS)
        height = {layer: place for place, layer in enumerate(neurons.LAYERS)}
        kinds: collections.Counter[str] = collections.Counter()
        counts = []
        joined = {identity: identity for identity in layer_of}

        def root(identity: object) -> object:
            while joined[identity] != identity:
                joined[identity] = joined[joined[identity]]
                identity = joined[identity]
            return identity

        for identity, layer, connections in rows:
            assert isinstance(connections, list)
            counts.append(len(connections))
            for link in connections:
                assert link["target"] in layer_of
                assert link["target"] != identity
                kinds[link["conn_type"]] += 1
                step = height[str(layer_of[link["target"]])] - height[str(layer)]
                assert step == {"forward": 1, "backward": -1, "lateral": 0}[link["conn_type"]]
                joined[root(identity)] = root(link["target"])
        assert 3.8 < sum(counts) / len(counts) < 4.2
        assert (min(counts), max(counts)) == (0, 8)
        assert kinds["forward"] > kinds["backward"] + kinds["lateral"]
        largest = collections.Counter(root(identity) for identity in layer_of).most_common(1)[0][1]
        assert largest > 0.99 * len(layer_of)

    def test_gradients_follow_from_pattern_and_meta(self, loaded: servers.Stores) -> None:
        rows = ask(loaded.flat_url, "SELECT pattern, meta, payload FROM flat.learning_data LIMIT 100")
        for pattern, meta, payload in rows:
            assert isinstance(pattern, list)
            assert isinstance(meta, dict)
            assert isinstance(payload, memoryview)
            # As PostgreSQL sends a real it has the fewest digits that tell it from others: back to 32 bits.
            exact = struct.unpack(f"{len(pattern)}f", struct.pack(f"{len(pattern)}f", *pattern))
            terms = {"outputs": meta["outputs"], "gain": meta["gain"], "target": meta["class"]}
            assert meta["loss"] == "linear-mse"
            assert dict(learning.unpack(bytes(payload))[0]) == learning.linear_gradients(exact, **terms)

    def test_the_nearest_prototype_is_the_patterns_own(self, loaded: servers.Stores) -> None:
        rows = ask(loaded.flat_url, "SELECT kind, pattern, meta ->> 'label' FROM flat.learning_data")
        prototypes = {label: pattern for kind, pattern, label in rows if kind == "prototype"}
        assert len(prototypes) == 48
        examples = [(pattern, label) for kind, pattern, label in rows if kind == "example"]
        for pattern, label in examples[:200]:
            assert isinstance(pattern, list)
            distance = {
                name: sum((a - b) ** 2 for a, b in zip(pattern, other, strict=True))  # type: ignore[call-overload]
                for name, other in prototypes.items()
            }
            assert min(distance, key=distance.__getitem__) == label

    def test_every_pattern_belongs_to_a_neuron(self, loaded: servers.Stores) -> None:
        query = (
            "SELECT count(*) FROM flat.learning_data LEFT JOIN flat.neuron_states USING (neuron_id) WHERE layer IS NULL"
        )
        assert ask(loaded.flat_url, query) == [(0,)]

    def test_the_audit_chain_is_whole_across_chunks(self, databases: servers.Databases) -> None:
        stores = databases.open()
        sample.load(stores.flat_url, scale=0.06, seed=7, workers=2, categories=["metadata"])
        rows = ask(
            stores.flat_url, "SELECT id, payload FROM flat.operational_metadata WHERE type = 'audit' ORDER BY id"
        )
        found = metadata.verify_audit_chain(rows)  # type: ignore[arg-type]
        assert (found.entries, found.broken) == (1200, ())
        del rows[600]
        assert len(metadata.verify_audit_chain(rows).broken) == 1  # type: ignore[arg-type]
        databases.close(stores)

    @pytest.mark.parametrize("scale", [1e-9, 2e-6, 5e-6, 1e-5])
    def test_the_smallest_scales_work(self, stores: servers.Stores, scale: float) -> None:
        sample.load(stores.flat_url, scale=scale, seed=1)
        query = "SELECT count(DISTINCT layer) FROM flat.neuron_states"
        assert ask(stores.flat_url, query) == [(min(5, max(1, round(scale * 1_000_000))),)]


@pytest.mark.parametrize("slug", [category.slug for category in CATEGORIES])
@pytest.mark.parametrize("version", [18, 16])
def test_every_edge_value_comes_back_from_the_hierarchical_tables(
    stores: servers.Stores, request: pytest.FixtureRequest, slug: str, version: int
) -> None:
    hier_url = stores.hier_url
    if version == 16:
        cluster: Cluster = request.getfixturevalue("flat_cluster_16")
        hier_url = cluster.create_database(f"edge_{slug.replace('-', '_')}")
        schema.upgrade(cluster.create_database(f"edge_flat_{slug.replace('-', '_')}"), hier_url)
    sample.load(stores.flat_url, scale=0.0005, seed=5, categories=[slug], edge_cases=True)
    category = registry.builtin().get(slug)
    migrate(category, stores.flat_url, hier_url)
    names = ", ".join(category.source.names)
    everything = category.rebuild_where(lambda columns: "true")
    flat = texts(stores.flat_url, f"SELECT {names} FROM flat.{category.source.table}")
    assert len(flat) > 8
    assert texts(hier_url, f"SELECT {names} FROM ({everything}) AS rebuilt") == flat
    # A range is what the verifier asks for: it must cut all tables at the same place.
    middle = sorted(flat)[len(flat) // 2].split("\t")[0]
    condition = f"{category.key[0]} > $hal9${middle}$hal9$"
    cut = category.rebuild_where(lambda columns: f"{columns[0]} > $hal9${middle}$hal9$")
    assert texts(hier_url, f"SELECT {names} FROM ({cut}) AS rebuilt") == texts(
        stores.flat_url, f"SELECT {names} FROM flat.{category.source.table} WHERE {condition}"
    )


def test_connections_are_hashed_as_the_document_they_are(stores: servers.Stores) -> None:
    """The text that stands for a document is the one that PostgreSQL gives that document."""
    weights = [
        "0",
        "-0",
        "1",
        "-0.5",
        "1e-4",
        "9.9e-5",
        "5e-324",
        "1e14",
        "123456789012345680",
        "1e308",
        "NaN",
        "-Infinity",
    ]
    exact = [None, "1.000", "-0.00", "1e-30", "123456789012345678901234567890.5"]
    kinds = ["", 'a "b" \\ \t \u00e9\u2028 \x7f']
    category = registry.builtin().get("neuron-states")
    with connection.connected(stores.hier_url, application_name="test") as made, made.cursor() as cursor:
        cursor.execute(
            "INSERT INTO hier.units (unit_id, layer, kind, activation, processing_mode, created_at, updated_at, "
            "source_version) VALUES (gen_random_uuid(), 'l', 'k', 0, 'sync', now(), now(), 1)"
        )
        rows = list(enumerate(itertools.product(kinds, weights, exact)))
        cursor.executemany(
            "INSERT INTO hier.unit_connections SELECT unit_id, %s, gen_random_uuid(), %s, %s, %s FROM hier.units",
            [(ordinal, *row) for ordinal, row in rows],
        )
        found = []
        for hashed in (True, False):
            rebuilt = category.rebuild_where(lambda columns: "true", hashed=hashed)
            cursor.execute(f"SELECT pg_typeof(connections)::text, connections::text FROM ({rebuilt}) AS rebuilt")
            found += cursor.fetchall()
    assert [kind for kind, _ in found] == ["text", "jsonb"]
    assert found[0][1] == found[1][1]
    assert [one["conn_type"] for one in json.loads(found[1][1])] == [kind for _, (kind, *_) in rows]


def texts(url: str, query: str) -> set[str]:
    """Return a query's rows as PostgreSQL prints them, floats with every digit."""
    sent = io.StringIO()
    with connection.connected(url, application_name="test") as made, made.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT", sent)
    return set(sent.getvalue().splitlines())


def migrate(category: Category, flat_url: str, hier_url: str) -> None:
    received: list[bytes] = []

    class Rows:
        def write(self, message: bytes) -> None:
            row = wire.rows_of(bytes(message))
            if row:
                received.append(row)

    columns = category.source.names
    with connection.connected(flat_url, application_name="test") as flat, flat.cursor() as cursor:
        table = f"flat.{category.source.table}"
        cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) TO STDOUT (FORMAT binary)", Rows())
    built = transform.Transform(category)
    output = built.apply([wire.split(row, len(columns)) for row in received])
    assert output.rejections == []
    with connection.connected(hier_url, application_name="test") as hier, hier.cursor() as cursor:
        for place, (writer, target) in enumerate(zip(built.writers, category.targets, strict=True)):
            cursor.copy_expert(
                f"COPY {target.qualified} ({', '.join(writer.columns)}) FROM STDIN (FORMAT binary)",
                io.BytesIO(output.document(place)),
            )


class TestLoading:
    def test_rows_that_are_there_are_not_touched(self, stores: servers.Stores) -> None:
        sample.load(stores.flat_url, scale=0.0001, seed=1, categories=["configuration"])
        before = digests(stores.flat_url)
        with pytest.raises(errors.Refused, match="holds rows already: configuration") as raised:
            sample.load(stores.flat_url, scale=0.0001, seed=2)
        assert "--replace" in (raised.value.hint or "")
        assert digests(stores.flat_url) == before

    def test_progress_and_result_add_up(self, stores: servers.Stores) -> None:
        seen: list[sample.Progress] = []
        (result,) = sample.load(
            stores.flat_url, scale=0.02, seed=1, categories=["neuron-states"], workers=2, on_progress=seen.append
        )
        assert [progress.done for progress in seen] == [5_000, 10_000, 15_000, 20_000]
        assert (seen[-1].total, result.rows, result.bytes) == (20_000, 20_000, seen[-1].bytes)
        assert ask(stores.flat_url, "SELECT reltuples FROM pg_class WHERE relname = 'neuron_states'") == [(20_000.0,)]

    def test_a_store_without_tables_is_behind(self, flat_cluster: Cluster) -> None:
        url = flat_cluster.create_database("bare")
        with pytest.raises(errors.SchemaBehind, match=r"flat\.user_sessions is missing"):
            sample.load(url, scale=1, seed=1)
        flat_cluster.drop_database("bare")

    def test_what_the_server_refuses_is_one_of_our_errors(self, stores: servers.Stores) -> None:
        with connection.connected(stores.flat_url, application_name="test") as made, made.cursor() as cursor:
            cursor.execute("ALTER TABLE flat.configuration ADD CHECK (version < 0)")
        for workers in (1, 2):
            with pytest.raises(errors.HAL9Error, match=r"refused sample data: .*violates check"):
                sample.load(stores.flat_url, scale=2, seed=1, categories=["configuration"], workers=workers)

    @pytest.mark.parametrize("scale", [0.0, -1.0, 1001.0, float("nan"), float("inf")])
    def test_a_scale_out_of_bounds_is_refused(self, scale: float) -> None:
        with pytest.raises(errors.InvalidUnit, match="scale"):
            sample.Shape(scale=scale, seed=1)


class TestCommand:
    def test_json_is_the_whole_of_stdout(self, cli: servers.Cli) -> None:
        result = cli("sample-data", "load", "--scale", "0.0001", "--category", "metadata,configuration", "--json")
        assert result.exit_code == 0, result.stderr
        document = json.loads(result.stdout)
        found = [(one["category"], one["rows"]) for one in document["loaded"]]
        assert found == [("configuration", 1), ("metadata", 40)]
        assert document["next_steps"]

    def test_a_pipe_gets_tabs_and_more_processes_the_same(self, cli: servers.Cli, stores: servers.Stores) -> None:
        result = cli("sample-data", "load", "--scale", "0.02", "--workers", "2")
        assert result.exit_code == 0, result.stderr
        lines = [line.split("\t") for line in result.stdout.splitlines()]
        assert [line[0] for line in lines] == [
            "CATEGORY", "user-sessions", "neuron-states", "learning-data", "configuration", "metadata", "total",
        ]  # fmt: skip
        assert lines[-1][1] == "50,020"
        before = digests(stores.flat_url)
        again = cli("sample-data", "load", "--scale", "0.02", "--workers", "1", "--replace", "--yes")
        assert again.exit_code == 0, again.stderr
        assert digests(stores.flat_url) == before

    def test_replacing_wants_a_confirmation(self, cli: servers.Cli, stores: servers.Stores) -> None:
        line = ("sample-data", "load", "--category", "configuration", "--scale")
        assert cli(*line, "0.001").exit_code == 0
        refused = cli(*line, "0.002")
        assert refused.exit_code == errors.EXIT_REFUSED
        assert "configuration (about 1 rows)" in refused.stderr
        assert cli(*line, "0.002", "--replace").exit_code == errors.EXIT_REFUSED
        assert ask(stores.flat_url, "SELECT count(*) FROM flat.configuration") == [(1,)]
        assert cli(*line, "0.002", "--replace", "--yes").exit_code == 0
        assert ask(stores.flat_url, "SELECT count(*) FROM flat.configuration") == [(2,)]

    def test_a_dry_run_changes_nothing(self, cli: servers.Cli, stores: servers.Stores) -> None:
        result = cli("sample-data", "load", "--scale", "0.01", "--dry-run", "--json")
        assert json.loads(result.stdout)["rows"]["neuron-states"] == 10_000
        assert ask(stores.flat_url, "SELECT count(*) FROM flat.neuron_states") == [(0,)]

    @pytest.mark.parametrize("args", [("--scale", "0"), ("--scale", "nan"), ("--category", "neuron")])
    def test_what_is_wrong_is_a_usage_error(self, cli: servers.Cli, args: tuple[str, ...]) -> None:
        result = cli("sample-data", "load", *args)
        assert (result.exit_code, result.stdout) == (errors.EXIT_USAGE, "")
        assert "Traceback" not in result.stderr
