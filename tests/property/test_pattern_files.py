"""Whatever learning data the flat store holds goes through files bit for bit, and old files never win over it."""

from __future__ import annotations

import dataclasses
import io
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hal9mig.categories import registry, wire
from hal9mig.categories.declaration import Column
from hal9mig.engine.pattern_files import shapes
from hal9mig.engine.pattern_files.rows_file import FileShape, RowsReader, RowsWriter
from hal9mig.stores import binary_copy, connection
from tests.property.flat_rows import TAME, TIMES, WILD, Row, records
from tests.property.test_round_trip import empty, put
from tests.support import comparison, migration_driver
from tests.support.learning_folders import LEARNING, Folders
from tests.support.migration_driver import Driver

CATEGORY = registry.builtin().get(LEARNING)
#: Arrays that Parquet's lists cannot hold besides those that they can, and any text that is one of a type.
REALS = [
    "{}", "{NULL}", "{1,NULL,NaN,-0,Infinity,1e-45}", "{{1,2},{3,4}}", "[0:1]={1,2}", "{{NULL},{1}}", "[5:5]={NULL}",
    "{3.4028235e38,-1.1754944e-38}",
]  # fmt: skip
TIMES_AT_THE_EDGE = [
    "infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294246-12-31 23:59:59.999999+00",
    "294247-01-10 04:00:54.775807+00", "294247-01-10 04:00:54.775808+00", "294276-12-31 23:59:59.999999+00",
]  # fmt: skip
#: Beside the category's own columns those that every type of a column may have.
MORE = (Column("whole", "integer"), Column("exact", "numeric"), Column("at", "timestamp"), Column("items", "text[]"))
_SLOW = settings(
    max_examples=5,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def sent(driver: Driver, values: Sequence[Row], columns: Sequence[Column]) -> list[list[bytes]]:
    """Return rows of values as PostgreSQL sends them."""
    found: list[list[bytes]] = []
    row = ", ".join(f"%s::{column.type}" for column in columns)
    sql = " UNION ALL ".join([f"SELECT {row}"] * len(values))
    params = [one[column.name] for one in values for column in columns]
    opened = connection.connect(driver.stores.flat_url, application_name="test")
    with opened.cursor() as cursor:
        binary_copy.each(cursor, sql, params, lambda row: found.append(wire.split(row, len(columns))))
    opened.close()
    return found


@_SLOW
@given(data=st.data())
def test_a_file_gives_back_every_field_as_it_was_sent(shared: Driver, data: st.DataObject) -> None:
    """NULL, NaN with its sign, arrays of any shape, every time, every digit of a number in JSON."""
    drawn = data.draw(st.lists(records(TAME[LEARNING]), max_size=6))
    edges = [
        {**row, "pattern": REALS[at % len(REALS)], "recorded_at": TIMES_AT_THE_EDGE[at % len(TIMES_AT_THE_EDGE)]}
        for at, row in enumerate(data.draw(st.lists(records(TAME[LEARNING]), min_size=8, max_size=8)))
    ]
    more = {"whole": "-2147483648", "exact": "1.500", "at": "infinity", "items": '{"a b",NULL}'}
    nothing = dict.fromkeys([*CATEGORY.source.names, *more])
    columns = (*CATEGORY.source.columns, *MORE)
    shape = FileShape(table="all", columns=columns, facts={"category": LEARNING})
    rows = sent(shared, [*({**row, **more} for row in (*drawn, *edges)), nothing], columns)
    stream = io.BytesIO()
    writer = RowsWriter(stream, shape)
    groups = [rows[:3], [], rows[3:]]
    for group in groups:
        writer.group(list(zip(*group, strict=True)))
    assert writer.close().rows == len(rows)
    reader = RowsReader(stream, shape, "it")
    assert reader.groups == len(groups)
    assert [list(map(list, zip(*reader.group(at), strict=True))) for at in range(3)] == groups


@_SLOW
@given(data=st.data())
def test_export_transform_and_import_while_the_flat_store_changes(shared: Driver, data: st.DataObject) -> None:
    """Afterwards the hierarchical store holds what the flat one holds now, or it is in quarantine."""
    wild = {**WILD[LEARNING], "pattern": TAME[LEARNING]["pattern"] | st.sampled_from(REALS), "recorded_at": TIMES}
    drawn = data.draw(st.lists(records(wild), max_size=9, unique_by=lambda row: row["pattern_id"]))
    changed = data.draw(st.lists(records(wild), max_size=len(drawn) // 3))
    gone = [row["pattern_id"] for row in drawn[len(drawn) - data.draw(st.integers(0, len(drawn) // 3)) :]]
    added = [{**row, "pattern_id": str(uuid.uuid4())} for row in data.draw(st.lists(records(wild), max_size=3))]
    empty(shared, CATEGORY)
    put(shared, CATEGORY, drawn)
    place = Path(tempfile.mkdtemp(prefix="hal9t-"))
    try:
        folders = Folders(shared, place)
        folders.export(layout=data.draw(st.sampled_from(["hierarchical", "flat"])), tuned={"batch-size": "3"})
        replaced = [{**new, "pattern_id": old["pattern_id"]} for new, old in zip(changed, drawn, strict=False)]
        if data.draw(st.booleans()):
            put(shared, CATEGORY, [*replaced, *added])
            with migration_driver.connected(shared.stores.flat_url) as cursor:
                cursor.execute("DELETE FROM flat.learning_data WHERE pattern_id = ANY(%s::uuid[])", (gone,))
        folders.transform()
        run = folders.take(tuned={"batch-size": "2", "checkpoint-interval": "2"})
    finally:
        shutil.rmtree(place)
    held = shared.held(LEARNING)
    found = comparison.differences(shared.stores, CATEGORY)
    assert found == comparison.Differences(compared=found.compared, missing=frozenset(held))
    assert run.done_records == found.compared
    assert run.quarantined == len(held)


def test_a_shape_knows_every_column_by_its_declaration() -> None:
    """A column that is added to the category comes into the files by itself."""
    wider = dataclasses.replace(
        CATEGORY, source=dataclasses.replace(CATEGORY.source, columns=(*CATEGORY.source.columns, *MORE))
    )
    assert [column.name for column in shapes.exported(wider).columns][-5:] == [
        "whole", "exact", "at", "items", "record_hash",
    ]  # fmt: skip
