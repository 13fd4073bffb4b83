"""The file in which traffic notes what it has written: a JSON line before each write and one after it.

A write is ``begun`` before it is made, then ``done``, ``failed`` (certainly not made) or ``maybe``. One
that was begun and has no second line is a ``maybe`` too: its process was killed in between.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import hashlib
import json
import os
import pathlib
import secrets
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from hal9mig import errors
from hal9mig.categories import wire
from hal9mig.categories.declaration import Category
from hal9mig.client.values import Json

PUT, DELETE = "put", "delete"
#: Characters of a line, at most; traffic's own have some hundred.
_LONGEST = 1 << 20
BEGUN, DONE, FAILED, MAYBE = "begun", "done", "failed", "maybe"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One line.

    Attributes:
        run, n: which write of which process.
        key: the record's key as texts.
        hash: the fingerprint of what was put; None for a deletion.
        version: the version it has; of a deletion the one that the record had, None when there was none.
        hot: whether others write this key too, so that versions decide which write was the last.
    """

    run: str
    n: int
    category: str
    key: tuple[str, ...]
    op: str
    state: str
    hash: str | None
    version: int | None
    hot: bool
    at: str


class TrafficLog:
    """Appends lines; each is handed to the operating system at once, so a killed process loses none.

    Attributes:
        earlier: how many runs have written to this file before.
    """

    def __init__(self, path: pathlib.Path):
        self.earlier = len({line.run for line in read(path)}) if path.exists() and path.stat().st_size else 0
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise errors.Refused(f"The file {path} cannot be written: {error.strerror}.") from None
        self._run = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._count = 0
        # A run that was killed may have left half a line.
        if os.fstat(self._file).st_size:
            os.write(self._file, b"\n")

    def begin(self, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Note writes that are about to be made, and return their lines."""
        with self._lock:
            lines = []
            for entry in entries:
                self._count += 1
                lines.append({"run": self._run, "n": self._count, **entry, "state": BEGUN, "version": None})
            self._append(lines)
        return lines

    def end(self, lines: Sequence[dict[str, Any]], state: str, versions: Sequence[int | None] | None = None) -> None:
        """Note what became of writes that were begun."""
        with self._lock:
            for place, line in enumerate(lines):
                line["state"] = state
                line["version"] = versions[place] if versions else None
            self._append(lines)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, lines: Sequence[dict[str, Any]]) -> None:
        at = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        text = "".join(json.dumps({**line, "at": at}, ensure_ascii=False) + "\n" for line in lines)
        os.write(self._file, text.encode())


def read(path: pathlib.Path) -> Iterator[Line]:
    """Yield the lines of a file; half a line that a killed process left behind is passed over.

    Raises:
        errors.UsageError: the file is missing, or none that traffic has written.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            # In pieces, as a device may have no end and no line.
            for number, text in enumerate(iter(lambda: file.readline(_LONGEST), ""), start=1):
                line = _line(text)
                if line is None and number == 1:
                    raise errors.UsageError(f"{path} is no file that sample-data traffic has written.")
                if line is not None:
                    yield line
    except OSError as error:
        raise errors.UsageError(f"{path} cannot be read: {error.strerror}.") from None


def _line(text: str) -> Line | None:
    try:
        return msgspec.convert(json.loads(text), Line)
    except (ValueError, RecursionError):
        return None


def fingerprint(category: Category, record: Mapping[str, Any]) -> str:
    """Return what two records have in common when they are the same but for the version."""
    parts = [
        _plain(record[column.name], wire.canonical_type(column.type))
        for column in category.source.columns
        if column.name != category.source.version
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def _plain(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind.endswith("[]"):
        return [_plain(item, kind[:-2]) for item in value]
    if kind in ("json", "jsonb"):
        return [_plain_json(value)]
    if kind == "real":
        # By its bits: the shortest text of a 32-bit float is another number as a 64-bit one.
        return struct.pack("!f", value).hex() if value == value else "nan"
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return str(value)


def _plain_json(value: Any) -> Any:
    if isinstance(value, Json):
        value = json.loads(value.text, parse_float=decimal.Decimal)
    if isinstance(value, Mapping):
        return {name: _plain_json(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_json(member) for member in value]
    if isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool):
        return f"#{decimal.Decimal(str(value)).normalize():f}"
    return value
