"""Folders of learning data: what is refused and by which name, what goes on where it was, who wins over old files."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable

import pytest

from hal9mig import errors, model
from hal9mig.engine.pattern_files.folder import PatternFolder
from hal9mig.engine.pattern_files.orders import ExportOrder
from hal9mig.engine.switch import gate
from hal9mig.ledger import runs
from hal9mig.stores import write_mode
from hal9mig.stores.write_mode import Mode
from tests.support import live_state
from tests.support.learning_folders import LEARNING, RECORDS, TUNED, Folders
from tests.support.migration_driver import Driver


@pytest.fixture
def driver(shared: Driver) -> Driver:
    """Stores in which there is learning data on the flat side and nothing on the other."""
    refill(shared)
    return shared


def refill(shared: Driver) -> None:
    category = shared.system.category(LEARNING)
    live_state.execute(shared.stores.flat_url, f"TRUNCATE {category.source.qualified}")
    live_state.execute(shared.stores.hier_url, "TRUNCATE hier.patterns, hier.pattern_gradients, hal9mig.quarantine")
    shared.load(LEARNING, RECORDS)


@pytest.fixture
def folders(driver: Driver, tmp_path: pathlib.Path) -> Folders:
    return Folders(driver, tmp_path)


@pytest.fixture
def made(folders: Folders) -> Folders:
    """Exported in three files and transformed."""
    folders.export(tuned=TUNED)
    folders.transform()
    return folders


@pytest.fixture(scope="module")
def kept(shared: Driver, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Both folders, unspoilt; of the stores they ask for no more than that these are the same."""
    refill(shared)
    folders = Folders(shared, tmp_path_factory.mktemp("learning"))
    folders.export(tuned=TUNED), folders.transform()
    return folders


@pytest.fixture
def copied(kept: Folders, tmp_path: pathlib.Path) -> Folders:
    """Both folders for a test to spoil."""
    copies = Folders(kept.driver, tmp_path)
    shutil.copytree(kept.exported, copies.exported)
    shutil.copytree(kept.transformed, copies.transformed)
    return copies


def enter(driver: Driver, state: write_mode.WriteState) -> None:
    with contextlib.closing(driver.system.hier()) as hier:
        write_mode.set_state(hier, state)
        hier.commit()


def patterns(driver: Driver) -> int:
    return int(live_state.execute(driver.stores.hier_url, "SELECT count(*) FROM hier.patterns")[0][0])


class TestTheWay:
    def test_it_is_a_migration_of_everything(self, made: Folders) -> None:
        """The same ledger: coverage, counts, digests, and each record once."""
        run = made.take(tuned=TUNED)
        driver = made.driver
        driver.assert_equal(LEARNING, records=RECORDS)
        driver.assert_once(run.id)
        assert (run.kind, run.category) == (model.RunKind.MIGRATE, LEARNING)
        with driver.system.ledger.begin() as session:
            assert runs.Cover(filter="") in runs.covers(session, LEARNING)
        assert made.files.origins(run) == {"from_files": RECORDS, "read_anew": 0}
        # Larger files are cut, also where a batch ends in the middle of a row group.
        again = made.take(tuned={"batch-size": "4"})
        assert [batch["records"] for batch in driver.batches(again.id)] == [4, 4, 4, 3, 4, 4, 4, 3, 4, 4, 2]
        driver.assert_once(again.id)

    @pytest.mark.parametrize(("layout", "depth"), [("hierarchical", 3), ("flat", 1)])
    def test_how_files_lie(self, folders: Folders, layout: str, depth: int) -> None:
        folders.export(layout=layout, tuned=TUNED)
        folders.transform()
        for root, tables in ((folders.exported, 1), (folders.transformed, 2)):
            made = PatternFolder(root).require_manifest()
            files = {str(path.relative_to(root)) for path in root.rglob("*.parquet")}
            assert files == {file.path for file in made.files}
            assert len(files) == 3 * tables
            assert {len(pathlib.Path(name).parts) for name in files} == {depth}
            assert (made.records, made.layout, made.schema_version) == (RECORDS, layout, 1)
            assert all(path.stat().st_mode & 0o77 == 0 for path in root.rglob("*"))
            assert not list(root.glob(".hal9*"))

    @pytest.mark.parametrize("records", [0, 1])
    def test_next_to_nothing(self, folders: Folders, records: int) -> None:
        first = folders.keys()[0]
        live_state.execute(
            folders.driver.stores.flat_url,
            "DELETE FROM flat.learning_data WHERE pattern_id <> %s OR %s = 0",
            first,
            records,
        )
        folders.export(), folders.transform()
        assert folders.take().done_records == records
        folders.driver.assert_equal(LEARNING, records=records)

    def test_what_cannot_be_transformed_is_counted_and_goes_to_quarantine(self, folders: Folders) -> None:
        bad = folders.keys()[7]
        live_state.execute(
            folders.driver.stores.flat_url, "UPDATE flat.learning_data SET payload = 'none' WHERE pattern_id = %s", bad
        )
        folders.export(tuned=TUNED)
        run = folders.transform()
        assert [key for key, _ in folders.files.refusals(run)] == [(bad,)]
        assert PatternFolder(folders.transformed).require_manifest().refused == 1
        assert folders.take(tuned=TUNED).quarantined == 1
        assert set(folders.driver.held(LEARNING)) == {(bad,)}
        folders.driver.assert_equal(LEARNING, missing=[(bad,)])


class TestTwice:
    def test_the_same_again(self, made: Folders) -> None:
        """An export does not touch files that are there, a transform changes nothing, an import brings up to date."""
        written = [path for root in (made.exported, made.transformed) for path in root.rglob("*") if path.is_file()]
        before = {path: path.read_bytes() for path in written}
        with pytest.raises(errors.Refused, match="holds learning data already"):
            made.export()
        assert made.files.transform(str(made.exported), str(made.transformed))[0] is None
        assert before == {path: path.read_bytes() for path in before}
        made.take()
        live_state.execute(
            made.driver.stores.flat_url, "UPDATE flat.learning_data SET version = version + 1, kind = 'new'"
        )
        made.take()
        made.driver.assert_equal(LEARNING, records=RECORDS)

    def test_what_was_stopped_goes_on_in_its_folder(self, folders: Folders) -> None:
        """By the same run, whose files stay; and the files of a worker that was frozen meanwhile are none of it."""
        files, driver = folders.files, folders.driver
        order = ExportOrder(folder=str(folders.exported), tuning=TUNED)
        run, plan = files.export(order)
        assert plan.resumed is None
        folders.done(run, until=lambda: any(folders.exported.rglob("*.parquet")))
        (first,) = folders.exported.rglob("*.parquet")
        late = first.with_name("000002-9.parquet")
        late.write_bytes(b"late")
        driver.coordinator.cancel(run.id)
        assert driver.work(run.id).status is model.RunStatus.CANCELLED
        for wrong in (lambda: folders.files.plan_transform(str(folders.exported), str(folders.transformed)),
                      lambda: folders.files.plan_import(str(folders.exported))):  # fmt: skip
            with pytest.raises(errors.NotFound, match="it is not finished"):
                wrong()
        same, plan = files.export(order)
        assert (same.id, plan.resumed and plan.resumed.id) == (run.id, run.id)
        content = first.read_bytes()
        assert folders.done(same).done_records == RECORDS
        assert first.read_bytes() == content
        assert not late.exists()
        folders.transform(), folders.take()
        driver.assert_equal(LEARNING, records=RECORDS)

    def test_a_token_without_a_run_is_taken_over(self, folders: Folders) -> None:
        """A command that died between making the folder and beginning its run leaves nothing in the way."""
        PatternFolder(folders.exported).begin()
        folders.export()


def flipped(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def linked(path: pathlib.Path) -> None:
    moved = pathlib.Path(f"{path}.elsewhere")
    path.rename(moved)
    path.symlink_to(moved)


DAMAGES: list[tuple[Callable[[pathlib.Path], object], str]] = [
    (flipped, "is damaged: its SHA-256"),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged: it measures"),
    (lambda path: path.write_bytes(b""), "is damaged: it measures"),
    (lambda path: path.unlink(), "is missing"),
    (linked, "a link"),
    (lambda path: linked(path.parent), "a link"),
    (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    (lambda path: (path.unlink(), os.mkfifo(path)), "cannot be read: it is no file"),
]


class TestRefused:
    """Nothing is changed then, and what is wrong is named."""

    @pytest.mark.parametrize(("damage", "words"), DAMAGES)
    def test_a_file_that_is_not_what_was_written(
        self, copied: Folders, damage: Callable[[pathlib.Path], object], words: str
    ) -> None:
        for root, attempt in (
            (copied.exported, lambda: copied.files.plan_transform(str(copied.exported), str(copied.exported) + "2")),
            (copied.transformed, lambda: copied.files.plan_import(str(copied.transformed))),
        ):
            file = sorted(root.rglob("*.parquet"))[0]
            damage(file)
            with pytest.raises(errors.Refused, match=words) as caught:
                attempt()
            assert file.name in caught.value.message
        assert patterns(copied.driver) == 0
        assert not pathlib.Path(f"{copied.exported}2").exists()

    def test_a_file_that_changes_after_the_check_ends_the_run(self, made: Folders) -> None:
        run = made.begin(tuned=TUNED)
        flipped(sorted(made.transformed.rglob("*.parquet"))[0])
        ended = made.driver.work(run.id)
        assert ended.status is model.RunStatus.FAILED
        assert "is damaged" in ended.reason
        assert ".parquet" in ended.reason

    def test_a_file_of_another_range_in_the_place_of_one(self, copied: Folders) -> None:
        first, second, *_ = sorted((copied.transformed / "hier.patterns").rglob("*.parquet"))
        first.write_bytes(second.read_bytes())
        with pytest.raises(errors.Refused, match=first.name):
            copied.files.plan_import(str(copied.transformed))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"category": "neuron-states"}, "holds neuron-states, and not learning-data"),
            ({"schema_version": 2}, "schema version 2"),
            ({"format": 2}, "format 2, which this program does not know"),
            ({"transform_version": 7}, "transformed by version 7"),
            ({"store": "1/1"}, "another database than this flat store"),
            ({"columns": {"hier.patterns": [["a", "text"]]}}, "other columns of hier.patterns"),
        ],
    )  # fmt: skip
    def test_a_manifest_of_something_else(self, copied: Folders, change: dict[str, object], words: str) -> None:
        self.rewrite(copied.transformed, lambda document: document | change)
        with pytest.raises(errors.Refused, match=words):
            copied.files.plan_import(str(copied.transformed))

    @pytest.mark.parametrize("name", ["../outside.parquet", "/etc/passwd", "hier.patterns/0000/../x.parquet"])
    def test_a_manifest_whose_names_leave_the_folder(self, copied: Folders, name: str) -> None:
        def changed(document: dict[str, object]) -> dict[str, object]:
            document["ranges"][0]["files"][0]["path"] = name  # type: ignore[index]
            return document

        self.rewrite(copied.transformed, changed)
        with pytest.raises(errors.Refused, match="no name of a file here"):
            copied.files.plan_import(str(copied.transformed))

    def test_a_range_that_is_left_out(self, copied: Folders) -> None:
        self.rewrite(copied.transformed, lambda document: document | {"ranges": document["ranges"][:-1]})  # type: ignore[index]
        with pytest.raises(errors.Refused, match="not complete"):
            copied.files.plan_import(str(copied.transformed))

    @pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": 1}', "{" * 5000])
    def test_a_manifest_that_is_none(self, copied: Folders, text: str) -> None:
        (copied.transformed / "manifest.json").write_text(text)
        with pytest.raises(errors.Refused, match="manifest"):
            copied.files.plan_import(str(copied.transformed))

    def test_a_manifest_that_was_edited(self, copied: Folders) -> None:
        path = copied.transformed / "manifest.json"
        path.write_text(path.read_text().replace('"records": 15', '"records": 16', 1))
        with pytest.raises(errors.Refused, match="is damaged: its hash"):
            copied.files.plan_import(str(copied.transformed))

    def test_the_wrong_order(self, copied: Folders, tmp_path: pathlib.Path) -> None:
        with pytest.raises(errors.Refused, match="transformed first") as caught:
            copied.files.plan_import(str(copied.exported))
        assert "learning transform --input" in str(caught.value.hint)
        with pytest.raises(errors.Refused, match="transformed already") as caught:
            copied.files.plan_transform(str(copied.transformed), str(tmp_path / "again"))
        assert "learning import --input" in str(caught.value.hint)
        for attempt in (copied.files.plan_import, lambda path: copied.files.plan_transform(path, str(tmp_path / "x"))):
            with pytest.raises(errors.NotFound, match="There is no folder"):
                attempt(str(tmp_path / "nowhere"))

    def test_a_folder_with_something_in_it(self, copied: Folders, tmp_path: pathlib.Path) -> None:
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine").write_text("")
        with pytest.raises(errors.Refused, match="is not empty: it holds mine"):
            copied.files.export(ExportOrder(folder=str(tmp_path / "full")))
        for other, words in (("full", "not empty"), ("full/mine", "is no folder"), ("exported/in", "one is in")):
            with pytest.raises(errors.Refused, match=words):
                copied.files.transform(str(copied.exported), str(tmp_path / other))
        with pytest.raises(errors.Refused, match="No such file"):
            copied.files.export(ExportOrder(folder=str(tmp_path / "no" / "such")))

    def test_in_hierarchical_only_nothing_is_imported(self, made: Folders) -> None:
        """The mode has to be left first; an export is of what the flat store, which follows, has."""
        try:
            enter(made.driver, write_mode.WriteState(mode=Mode.HIERARCHICAL_ONLY, epoch=3))
            with pytest.raises(errors.Refused, match="nothing is copied into a store that takes"):
                made.files.plan_import(str(made.transformed))
            plan = made.files.plan_export(ExportOrder(folder=f"{made.exported}2"))
        finally:
            enter(made.driver, write_mode.INITIAL)
        assert any("the flat one follows" in warning for warning in plan.warnings)

    @staticmethod
    def rewrite(root: pathlib.Path, change: Callable[[dict[str, object]], dict[str, object]]) -> None:
        """Write a manifest anew, sealed as if it had been written so."""
        path = root / "manifest.json"
        path.write_text(json.dumps(gate.sealed(change(json.loads(path.read_text())))))
