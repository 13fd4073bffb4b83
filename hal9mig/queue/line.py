"""Asks Redis short questions without its client library, which takes longer to load than most commands take.

What its address says beyond a login, a place and a database, such as TLS, is the library's to know.
"""

from __future__ import annotations

import dataclasses
import io
import socket
import time
import urllib.parse
from collections.abc import Sequence


class Refused(Exception):
    """Redis answered with an error; its code is the first word."""

    @property
    def login(self) -> bool:
        """Whether it is the login that is refused."""
        return str(self.args[0]).startswith(("NOAUTH", "WRONGPASS", "ERR AUTH", "ERR invalid password"))

    def __str__(self) -> str:
        return str(self.args[0]).partition(" ")[2] or str(self.args[0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """Where a Redis is, and as whom it is entered.

    Attributes:
        place: host and port, or the path of a socket.
    """

    place: tuple[str, int] | str
    database: int
    login: tuple[str, ...]


def address(url: str) -> Address | None:
    """Return what an address says, None where it says more than is known here or cannot be read."""
    parts = urllib.parse.urlsplit(url)
    given = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    local = parts.scheme in ("redis+socket", "unix")
    named = given.pop("virtual_host", None) or given.pop("db", None)
    half = parts.username and not parts.password
    if given or half or not (local or parts.scheme == "redis"):
        return None
    login = tuple(urllib.parse.unquote(word) for word in (parts.username, parts.password) if word)
    try:
        database = int(named or ("" if local else parts.path.strip("/")) or 0)
        if local:
            return Address(place=urllib.parse.unquote(parts.path), database=database, login=login)
        place = urllib.parse.unquote(parts.hostname or "localhost"), parts.port or 6379
    except ValueError:
        return None
    return Address(place=place, database=database, login=login)


def ask(at: Address, questions: Sequence[Sequence[str]], *, patience: float) -> list[int | str]:
    """Return the answers to some commands that answer with a number or a word.

    Args:
        patience: seconds that all of it may take.

    Raises:
        OSError: nothing answers there, or not in time.
        Refused: it answered with an error.
    """
    ends = time.monotonic() + patience
    before = [["AUTH", *at.login]] if at.login else []
    if at.database:
        before.append(["SELECT", str(at.database)])
    asked = [*before, *questions]
    with _connected(at, patience) as opened:
        opened.sendall(b"".join(map(_command, asked)))
        with opened.makefile("rb") as answers:
            found: list[int | str] = []
            for _ in asked:
                opened.settimeout(max(0.001, ends - time.monotonic()))
                found.append(_answer(answers))
    return found[len(before) :]


def _connected(at: Address, patience: float) -> socket.socket:
    if not isinstance(at.place, str):
        return socket.create_connection(at.place, timeout=patience)
    opened = socket.socket(socket.AF_UNIX)
    try:
        opened.settimeout(patience)
        opened.connect(at.place)
    except OSError:
        opened.close()
        raise
    return opened


def _command(words: Sequence[str]) -> bytes:
    encoded = [word.encode() for word in words]
    return b"".join([b"*%d\r\n" % len(encoded), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)])


def _answer(answers: io.BufferedReader) -> int | str:
    line = answers.readline(65536)
    kind, text = line[:1], line[1:].strip().decode(errors="replace")
    if not line.endswith(b"\r\n") or kind not in b"+-:":
        raise ConnectionError(f"it answered {line[:40]!r}" if line else "it closed the connection")
    if kind == b"-":
        raise Refused(text)
    return int(text) if kind == b":" else text
