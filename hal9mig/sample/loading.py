"""Loading sample data into the flat store by COPY, in several processes."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import dataclasses
import io
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import psycopg2

from hal9mig import errors
from hal9mig.categories import configuration, learning, metadata, neurons, registry, sessions, wire
from hal9mig.categories.declaration import Category
from hal9mig.sample import (
    configuration_rows,
    edge_rows,
    learning_rows,
    metadata_rows,
    neuron_rows,
    session_rows,
)
from hal9mig.sample.shape import Shape
from hal9mig.stores import connection

_APPLICATION = "hal9-migrate sample-data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadProgress:
    """How far loading is with one category: records and bytes loaded, records there will be, seconds passed."""

    category: str
    done: int
    total: int
    bytes: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
    """What was loaded of one category; ``bytes`` are those of the COPY."""

    category: str
    rows: int
    bytes: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Chunk:
    """One chunk as a process gets it; ``previous`` is the audit chain's hash before it."""

    url: str
    shape: Shape
    slug: str
    number: int
    previous: str = ""


def load(
    flat_url: str,
    *,
    scale: float,
    seed: int,
    categories: Sequence[str] = (),
    workers: int = 1,
    on_progress: Callable[[LoadProgress], None] = lambda progress: None,
    replace: bool = False,
    edge_cases: bool = False,
) -> list[Loaded]:
    """Load sample data into the flat store.

    Chunks commit on their own: when it is interrupted the tables hold a part, and the next time
    needs ``replace``.

    Args:
        flat_url: the flat store.
        scale: 1 is HAL9's full size; each category has at least one record.
        seed: another seed gives another state.
        categories: slugs of built-in categories; none is all.
        workers: processes that make and load rows; the rows do not depend on it.
        on_progress: called after each chunk.
        replace: empty the tables first.
        edge_cases: add the records of ``edge_rows``.

    Raises:
        errors.Refused: a table holds rows and ``replace`` is not set; nothing was changed.
        errors.SchemaBehind: a table is missing.
        errors.UnknownCategory: a category is none of HAL9's own.
        errors.InvalidUnit: the scale is out of bounds.
        errors.StoreUnreachable: the store cannot be reached, or went away.
        errors.HAL9Error: the server refused a row, or a process died.
    """
    shape = Shape(scale=scale, seed=seed)
    chosen = registry.builtin().select(categories)
    held = occupied(flat_url, categories)
    if held and not replace:
        raise errors.Refused(
            f"The flat store holds rows already: {', '.join(held)}.",
            hint="--replace deletes them first",
        )
    if held:
        _empty(flat_url, [category for category in chosen if category.slug in held])
    try:
        with _Pool(workers) as run:
            return [_load_category(flat_url, shape, category, run, on_progress, edge_cases) for category in chosen]
    except psycopg2.Error as error:
        detail = " ".join(str(error).split())
        # Without a code of the server's the error is the connection's own.
        if error.pgcode is None:
            raise errors.StoreUnreachable(f"The connection to the flat store was lost: {detail}") from error
        raise errors.HAL9Error(f"The flat store refused sample data: {detail}") from error
    except concurrent.futures.process.BrokenProcessPool as error:
        raise errors.HAL9Error("A process that was loading sample data died.", hint="load again, --replace") from error


def occupied(flat_url: str, categories: Sequence[str] = ()) -> dict[str, int]:
    """Return which of these categories' tables hold rows, and about how many.

    Raises:
        errors.SchemaBehind: a table is missing.
        errors.UnknownCategory: a category is none of HAL9's own.
        errors.StoreUnreachable: the store cannot be reached.
    """
    found = {}
    with connection.connected(flat_url, application_name=_APPLICATION) as opened, opened.cursor() as cursor:
        for category in registry.builtin().select(categories):
            table = category.source.qualified
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", (table,))
            row = cursor.fetchone()
            if row is None:
                raise errors.SchemaBehind(f"Table {table} is missing in the flat store.")
            cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {table})")
            if cursor.fetchone() == (True,):
                found[category.slug] = max(1, row[0])
    return found


def _empty(flat_url: str, categories: Sequence[Category]) -> None:
    with connection.connected(flat_url, application_name=_APPLICATION) as opened, opened.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(category.source.qualified for category in categories)}")


def _load_category(
    flat_url: str,
    shape: Shape,
    category: Category,
    run: Callable[[Sequence[_Chunk]], Iterable[tuple[int, int]]],
    on_progress: Callable[[LoadProgress], None],
    edge_cases: bool,
) -> Loaded:
    slug, started = category.slug, time.monotonic()
    heads = metadata_rows.heads(shape) if slug == metadata.CATEGORY.slug else [""] * shape.chunks(slug)
    chunks = [
        _Chunk(url=flat_url, shape=shape, slug=slug, number=number, previous=heads[number])
        for number in range(shape.chunks(slug))
    ]
    rows = size = 0
    for loaded, sent in run(chunks):
        rows, size = rows + loaded, size + sent
        passed = time.monotonic() - started
        on_progress(LoadProgress(category=slug, done=rows, total=shape.records(slug), bytes=size, seconds=passed))
    with connection.connected(flat_url, application_name=_APPLICATION) as opened, opened.cursor() as cursor:
        if edge_cases:
            for values in edge_rows.rows(shape, category):
                rows, size = rows + 1, size + _insert(cursor, category, values)
        cursor.execute(f"ANALYZE {category.source.qualified}")
    return Loaded(category=slug, rows=rows, bytes=size, seconds=time.monotonic() - started)


def _insert(cursor: psycopg2.extensions.cursor, category: Category, values: edge_rows.Values) -> int:
    columns = [column for column in category.source.columns if column.name in values]
    names = ", ".join(column.name for column in columns)
    places = ", ".join(f"%s::{column.type}" for column in columns)
    parameters = [values[column.name] for column in columns]
    cursor.execute(f"INSERT INTO {category.source.qualified} ({names}) VALUES ({places})", parameters)
    return sum(len(value) for value in parameters if value is not None)


class _Pool:
    """Gives a function that loads chunks: in this process, or in several of their own."""

    def __init__(self, workers: int):
        self._executor = (
            concurrent.futures.ProcessPoolExecutor(
                workers, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts
            )
            if workers > 1
            else None
        )

    def __enter__(self) -> Callable[[Sequence[_Chunk]], Iterable[tuple[int, int]]]:
        return self._run

    def _run(self, chunks: Sequence[_Chunk]) -> Iterator[tuple[int, int]]:
        if self._executor is None or len(chunks) == 1:
            yield from map(_load_chunk, chunks)
            return
        futures = [self._executor.submit(_load_chunk, chunk) for chunk in chunks]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        _close()


def _ignore_interrupts() -> None:
    # Ctrl-C reaches every process of the terminal; the first one decides, the others end their chunk.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# One connection for each process, as opening one for every chunk would take longer than a small chunk.
_open: dict[str, connection.Connection] = {}


def _connection(url: str) -> connection.Connection:
    if url not in _open:
        _open[url] = connection.connect(url, application_name=_APPLICATION)
    return _open[url]


def _close() -> None:
    while _open:
        _open.popitem()[1].close()


def _rows(chunk: _Chunk) -> Iterator[bytes]:
    if chunk.slug == metadata.CATEGORY.slug:
        return metadata_rows.rows(chunk.shape, chunk.number, chunk.previous)
    return {
        sessions.CATEGORY.slug: session_rows.rows,
        neurons.CATEGORY.slug: neuron_rows.rows,
        learning.CATEGORY.slug: learning_rows.rows,
        configuration.CATEGORY.slug: configuration_rows.rows,
    }[chunk.slug](chunk.shape, chunk.number)


def _load_chunk(chunk: _Chunk) -> tuple[int, int]:
    category = registry.builtin().get(chunk.slug)
    rows = list(_rows(chunk))
    document = wire.document(rows)
    opened = _connection(chunk.url)
    with opened, opened.cursor() as cursor:
        names = ", ".join(category.source.names)
        # What a crash of the server could lose is loaded again; waiting for the disk is not worth it.
        cursor.execute("SET LOCAL synchronous_commit = off")
        cursor.copy_expert(
            f"COPY {category.source.qualified} ({names}) FROM STDIN (FORMAT binary)", io.BytesIO(document)
        )
    return len(rows), len(document)
