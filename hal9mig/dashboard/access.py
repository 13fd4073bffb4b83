"""Who may see the page and who may press its buttons: the token, the addresses it is asked by, the sessions."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import ipaddress
import pathlib
import stat
import urllib.parse

from hal9mig import errors, safe_text
from hal9mig.settings import Settings

#: Characters that a token has at least: fewer could be guessed.
LEAST = 16
#: Days that a login holds.
LOGIN_DAYS = 0.5
#: Characters of a name that the audit is given.
MOST_OF_A_NAME = 40
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_MAKE = "python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """What is let in.

    Attributes:
        token: what the buttons ask for; None makes the page read-only.
        hosts: the names it may be asked by; None is any, where nothing is told to who has not logged in.
        reading: whether anybody who reaches the page may read it.
    """

    token: str | None
    hosts: frozenset[str] | None
    reading: bool

    @functools.cached_property
    def cookie_secret(self) -> bytes:
        """The key that sessions are signed with: another token ends them all."""
        # Slow on purpose: who has a cookie must not be able to try tokens on it.
        return hashlib.scrypt((self.token or "").encode(), salt=b"hal9-migrate dashboard", n=2**14, r=8, p=1)

    def fits(self, text: str) -> bool:
        """Whether a text is the token; how long that takes tells nothing."""
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def knows(self, host: str) -> bool:
        """Whether the page may be asked by this Host header.

        A page of somebody else's, whose name was made to lead to this machine, asks by that name.
        """
        return self.hosts is None or _name(host) in self.hosts


def decide(resolved: Settings, *, anyone_may_read: bool) -> Access:
    """Return what is let in, by the settings.

    Args:
        anyone_may_read: whether the page is shown to whoever reaches an address other than loopback.

    Raises:
        errors.InvalidSettings: the token is too short, or its file cannot be read.
        errors.Refused: strangers could reach the page, and there is no token.
    """
    token = read_token(resolved)
    local = is_loopback(resolved.dashboard_address)
    # Loopback has more addresses than those that everybody knows: its own, too, is a name that leads nowhere else.
    ours = _LOCAL | {resolved.dashboard_address} if local else _LOCAL
    if local and not resolved.dashboard_hosts:
        return Access(token=token, hosts=ours, reading=True)
    where = resolved.dashboard_address if not local else ", ".join(resolved.dashboard_hosts)
    if token is None and not anyone_may_read:
        raise errors.Refused(
            f"Others can reach the dashboard at {where}, and no token keeps them out; nothing was started.",
            hint=f"write a token into a file with {_MAKE} and name it with --token-file; "
            "or let everybody read, and nobody act, with --anyone-may-read",
        )
    hosts = ours | {_name(host) for host in resolved.dashboard_hosts} if resolved.dashboard_hosts else None
    return Access(token=token, hosts=hosts, reading=anyone_may_read)


def read_token(resolved: Settings) -> str | None:
    """Return the token, of its file where one is named; None without either.

    Raises:
        errors.InvalidSettings: it is too short, or its file cannot be read.
    """
    path = resolved.dashboard_token_file
    token = resolved.dashboard_token if path is None else _read(path)
    if token is not None and len(token) < LEAST:
        raise errors.InvalidSettings(
            f"The dashboard's token has {len(token)} characters; fewer than {LEAST} could be guessed.",
            hint=f"make one with {_MAKE}",
        )
    return token


def readable_by_others(path: pathlib.Path) -> bool:
    """Whether other accounts of this machine can read a file."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def same_origin(origin: str, host: str) -> bool:
    """Whether a form was sent by a page of ours: a browser says of which page, and by which name it asks."""
    try:
        return urllib.parse.urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def spoken(name: str) -> str:
    """Return a name as the audit has it: somebody's own word, on one line and not too long."""
    return safe_text.printable(" ".join(name.split()))[:MOST_OF_A_NAME].strip()


def _name(host: str) -> str:
    try:
        return (urllib.parse.urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise errors.InvalidSettings(f"The dashboard's token file {path} cannot be read: {why}.") from None
