"""A category of one's own: the guide is typed as it stands, and what may be wrong with a declaration is said."""

from __future__ import annotations

import os
import pathlib
import shutil

import pytest

from tests.acceptance import test_runbook
from tests.acceptance.test_own_runbook import promise, said
from tests.acceptance.test_runbook import Operator
from tests.runbook import shell_lines
from tests.support import servers, terminal
from tests.support.live_state import execute
from tests.support.servers import ROOT, Programs

operator = test_runbook.operator
EXAMPLE = ROOT / "docs" / "example"
GUIDE = ROOT / "docs" / "own-category.md"
_RECORDS = "HAL9_RECORD" in os.environ
_MOST = 12


@pytest.fixture
def shop(stores: servers.Stores, tmp_path: pathlib.Path) -> pathlib.Path:
    """The shop's tables in both stores, and the example's file in the folder."""
    execute(stores.flat_url, (EXAMPLE / "shop-flat.sql").read_text(encoding="utf-8"))
    execute(stores.hier_url, (EXAMPLE / "shop-hierarchical.sql").read_text(encoding="utf-8"))
    file = tmp_path / "orders.py"
    shutil.copy(EXAMPLE / "orders.py", file)
    return file


@pytest.mark.timeout(600)
def test_the_guide_is_what_happens(operator: Operator, programs: Programs, shop: pathlib.Path) -> None:
    document = GUIDE.read_text(encoding="utf-8")
    env = {"HAL9_CATEGORIES": str(shop)}
    programs.workers(1, env=env)
    programs.beat(env=env)
    outputs: list[list[str]] = []
    for shown in shell_lines.console(document):
        # The file is everybody's from the fourth step on; before it is being written.
        more = {} if "category new" in shown.text or "category check" in shown.text else env
        done = terminal.typed(
            ["bash", "-c", shown.text], env=operator.env | more, folder=operator.folder, columns=110, patience=240
        )
        assert done.code == 0, f"{shown.text}\nended with {done.code}:\n{done.shown}"
        lines = [line.replace(str(operator.folder), ".") for line in said(done.shown, operator.folder)]
        outputs.append(lines if len(lines) <= _MOST else [*lines[:_MOST], "..."])
        kept = {promise(line) for line in lines}
        for line in () if _RECORDS else shown.output:
            wanted = promise(line)
            assert wanted is None or wanted in kept, f"{shown.text}\nthe guide shows: {line}\n{done.shown}"
    if _RECORDS:
        GUIDE.write_text(shell_lines.recorded(document, outputs), encoding="utf-8")


def edited(file: pathlib.Path, old: str, new: str) -> str:
    """Write a variant of the example beside it, and return its name."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    made = file.with_name("variant.py")
    made.write_text(text.replace(old, new), encoding="utf-8")
    return made.name


BROKEN = [
    # What is replaced, by what, the exit code, and words that are said.
    ("CATEGORY = Category(", "CATEGORY = Category((", 2, "cannot be loaded: SyntaxError"),
    ("from hal9mig import errors", "import nothing_like_it", 2, "line 8 cannot be loaded: ModuleNotFoundError"),
    ('slug="orders"', 'slug="user-sessions"', 2, "'user-sessions' is taken twice"),
    ("CATEGORY = Category(", "import sys; sys.exit(0)\nCATEGORY = Category(", 2, "cannot be loaded: SystemExit"),
    ('slug="orders"', 'slug="Orders!"', 2, "the slug must be lower-case words"),
    ('Column("customer", "text")', 'Column("customers", "text")', 2, "unknown source column 'customer'"),
    ('Column("paid", "boolean")', 'Column("paid", "integer")', 3, "shop.orders.paid is boolean, not integer"),
    ('Column("lines", "jsonb"),', 'Column("lines", "jsonb"), Column("x", "text"),', 3, "shop.orders.x is missing"),
    ('table="order_lines"', 'table="lines"', 3, "table shop.lines is missing"),
    ('key=("order_id",),\n        version', 'key=("customer",),\n        version', 2, "pass the key column"),
    ("'cents', cents)", "'cents', cents + 1)", 3, "comes back as"),
    ("enumerate(lines, start=1)", "enumerate(lines[:1], start=1)", 3, "records come back as they were"),
    ('line.keys() != {"sku",', 'line.keys() == {"sku",', 3, "line 1 has"),
    ("coalesce(l.lines, '[]') AS lines", "l.nothing AS lines", 3, "the rebuild query fails"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code", "words"), BROKEN, ids=[words for *_, words in BROKEN])
def test_what_is_wrong_is_said(cli: servers.Cli, shop: pathlib.Path, old: str, new: str, code: int, words: str) -> None:
    told = cli("category", "check", edited(shop, old, new))
    assert told.exit_code == code, told.stdout + told.stderr
    assert words in told.stdout + told.stderr
    assert "Traceback" not in told.stderr


def test_a_good_one_leaves_nothing_behind(cli: servers.Cli, shop: pathlib.Path, stores: servers.Stores) -> None:
    execute(stores.hier_url, "INSERT INTO shop.orders VALUES (1, 'there before', now(), true, 7)")
    found = cli.document("category", "check", "orders.py", "--sample", "300")
    (one,) = found["categories"]
    assert (one["good"], one["bad"], one["records"]) == (True, 0, 1601)
    for _ in range(3):
        # So small a share of the rows may draw none, which must not pass for a table that is good.
        (few,) = cli.document("category", "check", "orders.py", "--sample", "1")["categories"]
        assert few["sampled"] == 1
    assert 200 <= one["sampled"] <= 300
    assert one["expected_seconds"] > 0
    assert execute(stores.hier_url, "SELECT customer FROM shop.orders") == [("there before",)]
    assert execute(stores.hier_url, "SELECT count(*) FROM shop.order_lines") == [(0,)]
    # One that is known already may be checked again.
    assert cli("category", "check", "orders.py", env={"HAL9_CATEGORIES": str(shop)}).exit_code == 0


def test_a_part_that_would_be_searched_through_is_named(
    cli: servers.Cli, shop: pathlib.Path, stores: servers.Stores
) -> None:
    execute(
        stores.hier_url,
        "ALTER TABLE shop.order_lines DROP CONSTRAINT order_lines_pkey, ADD PRIMARY KEY (place, order_id)",
    )
    name = edited(shop, 'key=("order_id", "place")', 'key=("place", "order_id")')
    told = cli("category", "check", name)
    assert (told.exit_code, "has no index that begins with (order_id)" in told.stdout) == (3, True), told.stdout


def test_a_draft_overwrites_nothing(cli: servers.Cli, shop: pathlib.Path, stores: servers.Stores) -> None:
    before = shop.read_text(encoding="utf-8")
    draft = ("category", "new", "bills", "--source", "shop.orders", "--target", "shop.orders")
    refused = cli(*draft, "--output", "orders.py")
    assert (refused.exit_code, "is there already" in refused.stderr) == (4, True)
    assert shop.read_text(encoding="utf-8") == before
    assert cli(*draft[:3], "--source", "shop.nothing", "--target", "shop.orders", "--output", "a.py").exit_code == 4
    assert cli("category", "new", "metadata", *draft[3:], "--output", "a.py").exit_code == 4
    assert cli("category", "new", "No name", *draft[3:], "--output", "a.py").exit_code == 2
    assert not shop.with_name("a.py").exists()
    execute(
        stores.flat_url, 'CREATE TABLE shop."Odd Names" ("Id" uuid PRIMARY KEY, "a b" text, "a""\\%" text, tags text[])'
    )
    execute(
        stores.hier_url, 'CREATE TABLE shop."Odd Names" ("Id" uuid PRIMARY KEY, "a b" text, "a""\\%" text, tags text[])'
    )
    odd = ("--source", 'shop."Odd Names"', "--target", 'shop."Odd Names"', "--output", "odd.py")
    assert cli("category", "new", "odd", *odd).exit_code == 0
    # With nothing left to write it is good as it stands.
    told = cli("category", "check", "odd.py")
    assert (told.exit_code, "no record is there to be taken there and back" in told.stdout) == (0, True), (
        told.stdout + told.stderr
    )
    told = cli("category", "check", ".")
    assert (told.exit_code, "is no file" in told.stderr) == (2, True)
    assert cli("category", "check", "orders.py", "--sample", "60000").exit_code == 2
    # A part's key is paired with the record's by what refers to what, in any order.
    execute(stores.flat_url, "CREATE TABLE shop.stock (place text, sku text, bins jsonb, PRIMARY KEY (place, sku))")
    execute(
        stores.hier_url,
        "CREATE TABLE shop.stock (place text, sku text, PRIMARY KEY (place, sku)); "
        "CREATE TABLE shop.bins (of_sku text, of_place text, bin int, PRIMARY KEY (of_place, of_sku, bin), "
        "FOREIGN KEY (of_sku, of_place) REFERENCES shop.stock (sku, place))",
    )
    both = ("--source", "shop.stock", "--target", "shop.stock", "--target", "shop.bins", "--output", "stock.py")
    assert cli("category", "new", "stock", *both).exit_code == 0
    assert "owner=('of_place', 'of_sku')" in shop.with_name("stock.py").read_text()
    assert cli("category", "check", "nothing.py").exit_code == 2
    assert cli("category", "check", "orders.py", "--sample", "0").exit_code == 2
