"""What becomes of records that a damaged checkpoint does not give back.

A damage lies between two keys that could be read. What the other store's part of the checkpoint holds
between them tells more:

- In the store that rules, a damage loses records. Those that the other store has are offered from there:
  they go to quarantine with what they are there. The others are gone; how many, and between which
  keys, goes to quarantine too.
- In the other store, a damage leaves records that are only half there. They are taken out whole, and
  their keys are put into the ruling store's journal, so that they are brought over again.
- A shared row follows from the records that need it, so it is made again from them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hal9mig import model
from hal9mig.categories import filters, identifiers, wire
from hal9mig.categories.declaration import Category, Role
from hal9mig.engine.checkpoint import archive, restore, salvage, save
from hal9mig.engine.checkpoint.manifest import Manifest
from hal9mig.engine.checkpoint.restore import RestoredTable
from hal9mig.engine.checkpoint.types import Worked
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.engine.transfer.writer import OVERRIDING
from hal9mig.ledger import batches, database, quarantine
from hal9mig.ledger.database import Session
from hal9mig.stores import projection, shadow
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode

_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
#: Records that are transformed together to make shared rows again.
_STEP = 1000
Damage = dict[str, Any]


def derive(system: System, desk: Desk, held: batches.Lease, session: Session) -> Worked:
    """Make shared rows again that a damage has lost, from the flat records that could be read."""
    made = restore.manifest(system, held)
    hier = desk.hier("restore")
    damages = _damages(session, held)
    own = restore.own_mark(session, held)
    added = 0
    for category in save.scope(system, held):
        places = restore.places(hier, _HIER, made, [category])
        shared = [
            place
            for place in places
            if place.table.role == "shared" and damages.get(save.subject(_HIER, place.relation.qualified))
        ]
        if shared:
            with hier, hier.cursor() as cursor:
                shadow.require(cursor, own)
                added += _derived(system, category, shared, _flat_records(system, made, category), cursor)
        hier.rollback()
    return Worked({"added": added})


def _derived(
    system: System, category: Category, shared: Sequence[RestoredTable], found: Iterator[list[list[bytes]]], cursor: Any
) -> int:
    transform = system.transform(category.slug)
    wanted = {place.relation.qualified for place in shared}
    added = 0
    for records in found:
        output = transform.apply(records)
        for place, target in enumerate(category.targets):
            if target.role is not Role.SHARED or target.qualified not in wanted or not output.rows[place]:
                continue
            made = shadowed(target.qualified, [target.qualified])
            columns, key = identifiers.listed(transform.writers[place].columns), identifiers.listed(target.key)
            stage = identifiers.derived("hal9_derived", target.schema, target.table)
            cursor.execute(
                f"CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DROP AS SELECT {columns} FROM {made} "
                f"WITH NO DATA; TRUNCATE {stage}"
            )
            document = io.BytesIO(output.document(place))
            cursor.copy_expert(f"COPY {stage} ({columns}) FROM STDIN (FORMAT binary)", document)
            same = identifiers.same("m", target.key, "s", target.key)
            cursor.execute(
                f"INSERT INTO {made} ({columns}) {OVERRIDING} SELECT DISTINCT ON ({key}) {columns} "
                f"FROM {stage} s WHERE NOT EXISTS (SELECT FROM {made} m WHERE {same})"
            )
            added += cursor.rowcount
    return added


def _flat_records(system: System, made: Manifest, category: Category) -> Iterator[list[list[bytes]]]:
    """Yield the flat records of a checkpoint that can be read, some at a time, as the transform takes them."""
    kept = archive.opened(system.settings)
    table = made.table(_FLAT, category.source.qualified)
    names = [name for name, _ in table.columns]
    places = [names.index(name) for name in category.source.names]
    for one in table.chunks:
        for block in salvage.blocks(kept, made.name, one):
            rows = [wire.split(row, len(names)) for row in block.rows]
            for at in range(0, len(rows), _STEP):
                yield [[fields[place] for place in places] for fields in rows[at : at + _STEP]]


def shadowed(sql: str, tables: Sequence[str]) -> str:
    """Return a statement over the shadows of these tables."""
    for name in tables:
        schema, table = identifiers.parted(name)
        beside = identifiers.qualified(shadow.schema_of(schema), table)
        sql = re.sub(identifiers.pattern(schema, table), beside.replace("\\", r"\\"), sql)
    return sql


def resolve(system: System, desk: Desk, held: batches.Lease, session: Session) -> Worked:
    """Decide what becomes of the records between damages; see the module."""
    made = restore.manifest(system, held)
    damages = _damages(session, held)
    own = restore.own_mark(session, held)
    flat, hier = desk.flat("restore"), desk.hier("restore")
    ruling = Mode(made.mode).ruling
    counts = {"quarantined": 0, "offered": 0, "brought": 0}
    for category in save.scope(system, held):
        work = _Resolving(category, held, session, mark=own, flat=flat, hier=hier, counts=counts)
        for store, connection in ((_FLAT, flat), (_HIER, hier)):
            places = restore.places(connection, store, made, [category])
            connection.rollback()
            for place in places:
                if place.table.category != category.slug or place.table.role == "shared":
                    continue
                for damage in damages.get(save.subject(store, place.relation.qualified), []):
                    if damage["rows"]:
                        work.settle(store, place, damage, ruling)
        work.finish(ruling)
    return Worked(counts)


def _damages(session: Session, held: batches.Lease) -> dict[str, list[Damage]]:
    """Return the damages that loading has met, by table."""
    found: dict[str, list[Damage]] = {}
    with session.begin():
        for batch in batches.listing(session, held.run_id):
            if batch["kind"] == "load" and batch["result"]:
                name = str(batch["subject"]).rpartition(" ")[0]
                found.setdefault(name, []).extend(batch["result"].get("damages", []))
    return found


class _Resolving:
    """Settles the damages of one category."""

    def __init__(
        self,
        category: Category,
        held: batches.Lease,
        session: Session,
        *,
        mark: str,
        flat: Connection,
        hier: Connection,
        counts: dict[str, int],
    ):
        self._category = category
        self._held = held
        self._session = session
        self._mark = mark
        self._connections = {_FLAT: flat, _HIER: hier}
        self._counts = counts
        self._again: set[model.Key] = set()
        self._lost: set[model.Key] = set()

    def settle(self, store: model.StoreName, place: RestoredTable, damage: Damage, ruling: model.StoreName) -> None:
        """Settle one damage of a table."""
        hit = self._hit(place, damage)
        if store is _HIER or store is not ruling:
            self._take_out(store, hit)
        if store is not ruling:
            self._again |= hit
        else:
            # The record at the end of one damage is the first that the next one may have hit.
            self._hold(store, place, damage, hit - self._lost)
            self._lost |= hit

    def finish(self, ruling: model.StoreName) -> None:
        """Have the ruling store bring the records again that the other one has only in part."""
        if not self._again:
            return
        kept = shadow.schema_of("hal9cap") + ".journal"
        connection = self._connections[ruling]
        with connection, connection.cursor() as cursor:
            shadow.require(cursor, self._mark)
            keys = [list(key) for key in sorted(self._again)]
            cursor.execute(
                f"INSERT INTO {kept} (id, category, key) SELECT m.id + row_number() OVER (), %s, "
                "ARRAY(SELECT jsonb_array_elements_text(k)) FROM jsonb_array_elements(%s::jsonb) k "
                f"CROSS JOIN (SELECT coalesce(max(id), 0) AS id FROM {kept}) m",
                (self._category.slug, database.json_text(keys)),
            )
        self._counts["brought"] += len(self._again)

    def _span(self, place: RestoredTable, damage: Damage) -> projection.Bounds:
        """Return the range of record keys that a damage may have hit; its ends may be half there."""
        owner = place.table.owner or place.table.key
        places = [place.table.key.index(name) for name in owner if name in place.table.key]
        ends = {}
        for name in ("after", "upto"):
            key = damage[name]
            whole = key is not None and len(places) == len(owner)
            ends[name] = tuple(key[at] for at in places) if whole else None
        return projection.Bounds(after=ends["after"], upto=ends["upto"])

    def _where(self, span: projection.Bounds, columns: Sequence[str]) -> tuple[str, list[object]]:
        where, params = span.sql(self._category, identifiers.each(columns))
        # The record of the lower end may have lost its last parts.
        return where.replace(" > ", " >= "), params

    def _records(self, store: model.StoreName, span: projection.Bounds) -> set[model.Key]:
        """Return the keys of the records that a store's shadow holds within a span."""
        if store is _FLAT:
            return self._rows(_FLAT, self._category.source.qualified, span, self._category.key)
        return set().union(*(self._rows(_HIER, root.qualified, span, root.owner) for root in self._category.roots))

    def _hit(self, place: RestoredTable, damage: Damage) -> set[model.Key]:
        """Return the keys of the records that a damage has hit, as far as either store's shadow tells them."""
        span = self._span(place, damage)
        keys = self._records(_FLAT, span) | self._records(_HIER, span)
        owner = place.table.owner or place.table.key
        if place.table.role == "root":
            # One root holds a record: whose row is in any of them was not hit.
            keys -= self._records(_HIER, span)
        elif set(place.table.key) <= set(owner):
            # One row a record: whose row is there was not hit.
            keys -= self._rows(place.table.store, place.relation.qualified, span, owner)
        return keys

    def _rows(
        self, store: model.StoreName, table: str, span: projection.Bounds, names: Sequence[str]
    ) -> set[model.Key]:
        where, params = self._where(span, names)
        texts = projection.texts(self._category, names)
        connection = self._connections[store]
        with connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {texts} FROM {shadowed(table, [table])} WHERE {where}", params)
            return {tuple(row) for row in cursor.fetchall()}

    def _take_out(self, store: model.StoreName, keys: set[model.Key]) -> None:
        """Take records out of a store's shadow whole."""
        scope = projection.Keys(keys=sorted(keys))
        source = self._category.source
        tables = [(source.qualified, self._category.key)]
        if store is _HIER:
            tables = [(target.qualified, target.owner) for target in reversed(self._category.owned)]
        connection = self._connections[store]
        with connection, connection.cursor() as cursor:
            shadow.require(cursor, self._mark)
            for table, columns in tables:
                where, params = scope.sql(self._category, identifiers.each(columns))
                cursor.execute(f"DELETE FROM {shadowed(table, [table])} WHERE {where}", params)

    def _hold(self, store: model.StoreName, place: RestoredTable, damage: Damage, hit: set[model.Key]) -> None:
        """Note lost records: each whose key is known, and how many others there were."""
        where = f"{damage['file']}, frame {damage['frame']}: {damage['why']}"
        payloads = self._payloads(_HIER if store is _FLAT else _FLAT, hit)
        with self._session.begin():
            shadow.require(self._session.connection.cursor(), self._mark)
            for key in sorted(hit):
                more = "; the other store has it" if key in payloads else ""
                self._quarantine(key, f"damaged in the checkpoint ({where}){more}", payloads.get(key))
            unknown = damage["rows"] - len(hit) if place.table.role in ("source", "root") else 0
            if unknown > 0:
                low = "/".join(damage["after"] or ["the beginning"])
                high = "/".join(damage["upto"] or ["the end"])
                text = f"{unknown} rows of {place.relation.qualified} are lost ({where})"
                self._quarantine((f"between {low} and {high}",), text, None)
        self._counts["offered"] += len(payloads)
        self._counts["quarantined"] += len(hit) + max(0, unknown)

    def _quarantine(self, key: model.Key, error: str, payload: str | None) -> None:
        quarantine.hold(
            self._session, category=self._category.slug, key=key, error=error, payload=payload,
            transform_version=self._category.transform_version, run_id=self._held.run_id, origin="recover",
        )  # fmt: skip

    def _payloads(self, store: model.StoreName, keys: set[model.Key]) -> dict[model.Key, str]:
        """Return the flat rows of records as JSON texts, as one store's shadow has them."""
        if not keys:
            return {}
        scope = projection.Keys(keys=sorted(keys))
        if store is _FLAT:
            rows, params = projection.flat_rows(self._category, scope, filters.EVERYTHING)
            tables = [self._category.source.qualified]
        else:
            rows, params = projection.rebuilt_rows(self._category, scope)
            tables = [target.qualified for target in self._category.targets]
        texts = projection.key_texts(self._category)
        connection = self._connections[store]
        with connection, connection.cursor() as cursor:
            cursor.execute(shadowed(f"SELECT {texts}, row_to_json(s)::text {rows}", tables), params)
            return {tuple(row[:-1]): row[-1] for row in cursor.fetchall()}
