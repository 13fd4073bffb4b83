"""A hundred users, acted for through the client: sessions looked up, read, touched and expired, on both sides.

Real sessions are only read. What is written are sessions of this check's own, under ids and tokens that no
application makes; they are deleted at the end, and those of a check that was killed at the beginning of the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from hal9mig import client as application
from hal9mig import model
from hal9mig.categories import sessions
from hal9mig.checks import continuity, sample
from hal9mig.checks.performance import percentile
from hal9mig.client import Client
from hal9mig.engine.system import System
from hal9mig.ledger import check_results
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.stores.capture import Mode
from hal9mig.stores.connection import Connection

T = TypeVar("T")
NAME, COMMAND = "users", "ux-test"
MOST_USERS = 10_000
_SLUG = sessions.CATEGORY.slug
_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
_TABLES = {_FLAT: "flat.user_sessions", _HIER: "hier.sessions"}
_OURS = uuid.UUID("6d0f3f1c-9f6b-5a53-8f0e-7b1d6f2f9a01")
#: Seconds in which a write has to have reached the other store, and between two looks.
_BOUND, _PAUSE = 30.0, 0.05


@dataclasses.dataclass(kw_only=True)
class _Timing:
    """Seconds that operations took, by what was done and where."""

    seconds: dict[tuple[str, str], list[float]] = dataclasses.field(default_factory=dict)

    def timed(self, name: str, where: str, act: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return act()
        finally:
            self.seconds.setdefault((name, where), []).append(time.perf_counter() - began)

    def measured(self) -> dict[str, float]:
        return {
            f"{name}_{where}_p{percent}_ms": round(percentile(values, percent) * 1000, 3)
            for (name, where), values in self.seconds.items()
            for percent in (50, 95, 99)
        }


def check(system: System, *, count: int, verify: bool, seed: int, actor: str) -> CheckOutcome:
    """Act as users whose sessions are drawn from the ruling store, and keep what was found.

    Args:
        count: users; verify: compare each one's real session in both stores.

    Raises:
        errors.Unreachable: a store does not answer.
    """
    category = system.category(_SLUG)
    keys = sample.keys(system, category, count, seed=seed)
    with (
        application.connect(system.settings, application_name="hal9-migrate ux-test") as client,
        _cleared(client, len(keys)),
    ):
        outcome = _acted(system, client, keys, verify=verify)
    with system.ledger.begin() as session:
        check_results.add(session, outcome, command=COMMAND, actor=actor)
    return outcome


def _acted(system: System, client: Client, keys: Sequence[model.Key], *, verify: bool) -> CheckOutcome:
    category, timing = system.category(_SLUG), _Timing()
    place = client.place()
    sides = (_FLAT, _HIER) if place.state.mode is not Mode.FLAT_ONLY else (_FLAT,)
    problems: list[str] = []
    if not keys:
        return CheckOutcome(
            category=_SLUG, name=NAME, verdict=CheckVerdict.SKIPPED, detail="there are no sessions to act with"
        )
    with sample.opened(system) as desk:
        found = sample.judged(system, desk, category, keys)
        if verify:
            problems += [f"session {one.key[0]} is {one.kind}" for one in found.drifting]
            problems += [f"session {key[0]}: {why}" for key, why in _lasting(system, client, found.both).items()]
        for number, key in enumerate(keys):
            real = timing.timed("read", "client", functools.partial(client.get, _SLUG, key[0]))
            if real is None:
                continue  # it ended while we looked
            connections = {side: desk.store(side, "check") for side in sides}
            problems += _one(client, timing, number, real, connections)
    told = f"{len(keys):,} users; real sessions: {found.told}"
    if sides == (_FLAT,):
        told += "; the write mode is flat-only, so what was written was looked for in the flat store"
    measured: dict[str, Any] = {"users": len(keys), "both": len(found.both), **timing.measured()}
    if problems:
        return CheckOutcome(
            category=_SLUG, name=NAME, verdict=CheckVerdict.FAILED, measured=measured,
            detail=f"{len(problems)} differences: {'; '.join(problems[:3])}",
            next_command=f"hal9-migrate state diff --category {_SLUG} --verbose",
        )  # fmt: skip
    return CheckOutcome(
        category=_SLUG, name=NAME, verdict=CheckVerdict.PASSED, detail=f"no difference for {told}", measured=measured
    )


def _lasting(system: System, client: Client, keys: Sequence[model.Key]) -> Mapping[model.Key, str]:
    """Return the sessions that read differently, twice: one that was written in between is no difference."""
    category = system.category(_SLUG)
    first = continuity.unequal(client, category, keys)
    return continuity.unequal(client, category, list(first)) if first else {}


def _one(
    client: Client,
    timing: _Timing,
    number: int,
    real: Mapping[str, Any],
    connections: Mapping[model.StoreName, Connection],
) -> Iterator[str]:
    """Open a session for a user, find it by its token, touch it, let it expire; yield what is not as it should be."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    token = hashlib.sha256(f"{_identity(number)}".encode()).hexdigest()
    own = {name: real[name] for name in sessions.CATEGORY.source.names if name != "version"} | {
        "session_id": _identity(number), "token_hash": token, "active": True,
        "created_at": now, "last_seen_at": now, "expires_at": now + datetime.timedelta(hours=1),
    }  # fmt: skip
    timing.timed("open", "client", lambda: client.put(_SLUG, own))
    for name, changed in (
        ("found", {}),
        ("touch", {"last_seen_at": now + datetime.timedelta(seconds=1)}),
        ("expire", {"active": False, "expires_at": now + datetime.timedelta(seconds=2)}),
    ):
        own |= changed
        if changed:
            timing.timed(name, "client", functools.partial(client.put, _SLUG, own))
        for side, connection in connections.items():
            wanted = (own["session_id"], own["user_id"], own["active"], own["last_seen_at"], own["expires_at"])
            held = _awaited(connection, side, token, wanted, timing)
            if held != wanted:
                yield f"a session that was {name} is {'not' if held is None else 'otherwise'} in the {side} store"


def _awaited(
    connection: Connection, side: model.StoreName, token: str, wanted: tuple[Any, ...], timing: _Timing
) -> tuple[Any, ...] | None:
    """Look a session up by its token until it is as wanted, or for as long as a write may take to be brought over."""
    deadline = time.monotonic() + _BOUND
    while True:
        held = timing.timed("lookup", str(side), lambda: _by_token(connection, side, token))
        if held == wanted or time.monotonic() > deadline:
            return held
        time.sleep(_PAUSE)


def _by_token(connection: Connection, side: model.StoreName, token: str) -> tuple[Any, ...] | None:
    with connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT session_id, user_id, active, last_seen_at, expires_at FROM {_TABLES[side]} WHERE token_hash = %s",
            (token,),
        )
        row = cursor.fetchone()
    return None if row is None else (uuid.UUID(str(row[0])), *row[1:])


@contextlib.contextmanager
def _cleared(client: Client, count: int) -> Iterator[None]:
    """Take our own sessions away before and after, also those of a check that was killed."""
    keys = [(str(_identity(number)),) for number in range(max(count, MOST_USERS))]

    def clear() -> None:
        place = client.place()
        for start in range(0, len(keys), 1000):
            for one in client.fetch(place.side, _SLUG, keys[start : start + 1000]):
                client.delete(_SLUG, one["session_id"])

    clear()
    try:
        yield
    finally:
        clear()


def left_over(client: Client, side: model.StoreName) -> int:
    """Return how many sessions of this check's own a store holds."""
    keys = [(str(_identity(number)),) for number in range(MOST_USERS)]
    return sum(len(client.fetch(side, _SLUG, keys[start : start + 1000])) for start in range(0, len(keys), 1000))


def _identity(number: int) -> uuid.UUID:
    return uuid.uuid5(_OURS, str(number))
