"""What docs/checkpoints.md says can be done without this program is done here, word for word."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
import xxhash
import zstandard

from hal9mig import model
from hal9mig.embedded import binaries
from hal9mig.engine.checkpoint import chunk, save
from hal9mig.engine.checkpoint.manifest import Table
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.transfer import follower
from tests.support import checkpoint_runs, servers
from tests.support.checkpoint_runs import CONFIGURATION, SESSIONS, Keeping
from tests.support.migration_driver import Driver, connected

DOCUMENT = (servers.ROOT / "docs" / "checkpoints.md").read_text("utf-8")
# For a machine that has no zstd of its own: the same library, as the program does it.
ZSTD = """#!{python}
import sys, zstandard
with open(sys.argv[-1], "rb") as file:
    with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as plain:
        sys.stdout.buffer.write(plain.readall())
"""


def block(begin: str) -> str:
    """Return the only example that begins so."""
    (found,) = re.findall(rf"^```\w*\n({begin}.*?)^```$", DOCUMENT, re.S | re.M)
    return str(found)


@pytest.fixture(scope="module")
def keeping(databases: servers.Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    """Stores that no test changes, and a checkpoint of them."""
    with prepared(databases, tmp_path_factory.mktemp("document")) as made:
        yield made


@contextlib.contextmanager
def prepared(databases: servers.Databases, base: pathlib.Path) -> Iterator[Keeping]:
    """Sessions and configuration in both stores, in dual-write, and a checkpoint in many chunks of many frames."""
    stores = databases.open()
    driver = Driver(stores, servers.environ(stores, base))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "MOST_ROWS", 60)
        patch.setattr(save, "FEWEST_ROWS", 60)
        patch.setattr(chunk, "FRAME_BYTES", 4096)
        driver.load(SESSIONS, 300, edge_cases=True)
        driver.load(CONFIGURATION, 40)
        Switch(driver.system).enable({})
        driver.copy(SESSIONS)
        driver.copy(CONFIGURATION)
        with checkpoint_runs.keeping(driver) as made:
            made.take("before")
            yield made
    driver.close()
    databases.close(stores)


@pytest.fixture
def folder(keeping: Keeping) -> pathlib.Path:
    """The checkpoint's folder."""
    return folder_of(keeping)


def folder_of(keeping: Keeping) -> pathlib.Path:
    """Return the checkpoint's folder."""
    return pathlib.Path(keeping.driver.system.settings.checkpoint_url) / "before"


def environ(tmp_path: pathlib.Path) -> dict[str, str]:
    """Return the environment of somebody who has psql and zstd."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    if shutil.which("zstd") is None:
        (tools / "zstd").write_text(ZSTD.format(python=sys.executable))
        (tools / "zstd").chmod(0o755)
    programs = binaries.postgres_tree(18) / "bin"
    return {"PATH": os.pathsep.join([str(tools), str(programs), os.environ["PATH"]])}


def load(folder: pathlib.Path, tmp_path: pathlib.Path, table: Table, into: str, url: str) -> None:
    """Run the example; it says nothing when all is well."""
    script = tmp_path / "load-table.sh"
    script.write_text(block("# load-table.sh"))
    done = subprocess.run(
        ["bash", script, folder, table.store, table.qualified, into, url],
        env=environ(tmp_path), check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    assert (done.stdout, done.stderr) == ("", "")


def difference(url: str, one: str, table: Table) -> int:
    """Return how many rows only one of two tables has, a live one without its generated columns."""
    live = f"SELECT {', '.join(name for name, _ in table.columns)} FROM {table.qualified}"
    with connected(url) as cursor:
        cursor.execute(
            f"SELECT count(*) FROM ((TABLE {one} EXCEPT ALL {live}) UNION ALL ({live} EXCEPT ALL TABLE {one})) d"
        )
        return int(cursor.fetchone()[0])  # type: ignore[index]


class TestLoading:
    """The example with psql, zstd and sha256sum."""

    @pytest.mark.parametrize("store", model.StoreName)
    def test_every_table(
        self, keeping: Keeping, folder: pathlib.Path, tmp_path: pathlib.Path, store: model.StoreName
    ) -> None:
        """Also the journals, the quarantine, and tables without a row."""
        url = url_of(keeping.driver, store)
        tables = [table for table in keeping.checkpoints.find("before").tables if table.store is store]
        assert len(tables) > 2
        for table in tables:
            into = f"public.{table.table}_before"
            load(folder, tmp_path, table, into, url)
            assert difference(url, into, table) == 0
            with connected(url) as cursor:
                cursor.execute(f"SELECT count(*) FROM {into}")
                assert cursor.fetchone() == (table.rows,)
                cursor.execute(f"DROP TABLE {into}")

    @pytest.mark.parametrize("hurt", ["flip", "cut", "remove", "manifest"])
    def test_of_a_damaged_one_nothing_is_loaded(
        self, keeping: Keeping, folder: pathlib.Path, tmp_path: pathlib.Path, hurt: str
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(folder, other)
        table = keeping.checkpoints.find("before").table(model.StoreName.FLAT, "flat.user_sessions")
        file = other / (table.chunks[1].file if hurt != "manifest" else "manifest.json")
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data if hurt != "cut" else data[: len(data) // 2])
        if hurt == "remove":
            file.unlink()
        url = keeping.driver.stores.flat_url
        with pytest.raises(RuntimeError, match=file.name if hurt != "manifest" else "Error"):
            load(other, tmp_path, table, "public.damaged", url)
        with connected(url) as cursor:
            cursor.execute("SELECT to_regclass('public.damaged')")
            assert cursor.fetchone() == (None,)


def test_who_knows_only_the_document_finds_every_row(keeping: Keeping, folder: pathlib.Path) -> None:
    """A reader that knows nothing but the document finds every row, and every hash as it should be."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    bare = {name: value for name, value in manifest.items() if name != "sha256"}
    text = json.dumps(bare, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == manifest["sha256"]
    assert manifest["format"] == 1
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} == {
        "manifest.json", *(one["file"] for table in manifest["tables"] for one in table["chunks"])
    }  # fmt: skip
    for table in manifest["tables"]:
        chunks = table["chunks"]
        assert [one["after"] for one in chunks] == [None, *(one["upto"] for one in chunks[:-1])]
        assert chunks[-1]["upto"] is None
        for one in chunks:
            assert one["file"].startswith(f"{table['store']}/{table['schema']}.{table['table']}/")
            stored = (folder / one["file"]).read_bytes()
            assert (len(stored), hashlib.sha256(stored).hexdigest()) == (one["bytes"], one["sha256"])
            frames = [
                zstandard.ZstdDecompressor().decompress(stored[offset : offset + length], allow_extra_data=False)
                for offset, length, _, _ in one["frames"]
            ]
            assert sum(length for _, length, _, _ in one["frames"]) == one["bytes"]
            assert sum(map(len, frames)) == one["raw_bytes"]
            assert frames[0].startswith(b"PGCOPY\n\xff\r\n\0")
            assert frames[-1].endswith(b"\xff\xff")
            frames[0] = frames[0][19:]
            found = [hashes(frame, len(table["columns"])) for frame in frames]
            assert [(len(rows), sum(rows) % 2**64) for rows in found] == [
                (rows, digest) for _, _, rows, digest in one["frames"]
            ]
            assert (sum(map(len, found)), sum(map(sum, found)) % 2**64) == (one["rows"], one["digest"])


def hashes(frame: bytes, columns: int) -> list[int]:
    """Return the hash of each tuple of a frame; a trailer ends it."""
    found, at = [], 0
    while at < len(frame) and frame[at : at + 2] != b"\xff\xff":
        start = at
        assert int.from_bytes(frame[at : at + 2]) == columns
        at += 2
        for _ in range(columns):
            at += 4 + max(0, int.from_bytes(frame[at : at + 4], signed=True))
        found.append(xxhash.xxh3_64_intdigest(frame[start:at]))
    assert len(frame) - at in (0, 2)
    return found


def test_an_older_schema(databases: servers.Databases, tmp_path: pathlib.Path) -> None:
    """Loaded beside, brought over as the document has it, and followed by the other store; versions only grow."""
    with prepared(databases, tmp_path) as own:
        brought_over(own, tmp_path)


def brought_over(keeping: Keeping, tmp_path: pathlib.Path) -> None:
    """Lose some settings, change the others, and bring all back from the checkpoint."""
    driver = keeping.driver
    url = driver.stores.flat_url
    contents = "SELECT key, value::text, updated_by, updated_at, version FROM flat.configuration ORDER BY key"
    with connected(url) as cursor:
        cursor.execute(contents)
        before = cursor.fetchall()
        cursor.execute("UPDATE flat.configuration SET value = '1', version = version + 3")
        cursor.execute("DELETE FROM flat.configuration WHERE key IN (SELECT key FROM flat.configuration LIMIT 5)")
        cursor.execute("CREATE SCHEMA restored")
    followed(driver)
    driver.assert_equal(CONFIGURATION, records=len(before) - 5)
    table = keeping.checkpoints.find("before").table(model.StoreName.FLAT, "flat.configuration")
    load(folder_of(keeping), tmp_path, table, "restored.configuration", url)
    with connected(url) as cursor:
        cursor.execute(block("INSERT INTO flat.configuration"))
        cursor.execute(contents)
        after = cursor.fetchall()
    assert [row[:-1] for row in after] == [row[:-1] for row in before]
    assert {now[-1] - then[-1] for now, then in zip(after, before, strict=True)} == {0, 4}
    followed(driver)
    driver.assert_equal(CONFIGURATION, records=len(before))


def url_of(driver: Driver, store: model.StoreName) -> str:
    """Return a store's address."""
    return driver.stores.flat_url if store is model.StoreName.FLAT else driver.stores.hier_url


def followed(driver: Driver) -> None:
    """Apply what was captured."""
    with connected(driver.stores.flat_url) as cursor:
        while cursor.execute("SELECT FROM hal9cap.journal LIMIT 1") or cursor.rowcount:
            follower.work(driver.system, driver.desk.flat("follow"), driver.desk.hier("follow"), lane=0, lanes=1)
