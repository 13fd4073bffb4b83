"""Acts as users do: looks sessions up, reads, touches and expires them, and compares what both stores have then.

What is written is written to sessions of our own, under ids and tokens that nobody else uses; real ones are only
read. A trial begins and ends by deleting its own, so one that was interrupted leaves nothing behind for good.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from hal9mig import errors
from hal9mig.checks import sessions
from hal9mig.checks.subject import Subject
from hal9mig.client.values import Record
from hal9mig.model import StoreName
from hal9mig.stores.write_mode import Mode

#: The first of our sessions' ids; each user has the one that is as much larger as his number.
_FIRST = uuid.UUID("68a19e00-0000-4000-8000-000000000000")
MOST_USERS = 100_000
_LAST = uuid.UUID(int=_FIRST.int + MOST_USERS)
_USER = "hal9-migrate ux-test user"
_PAUSE = 0.1


@dataclasses.dataclass(kw_only=True)
class Trial:
    """What acting as users came to.

    Attributes:
        seconds: what each operation took, by its name.
        problems: differences and refusals, as sentences; never a token.
        compared: which of the stores had what was written.
    """

    users: int
    mode: Mode
    compared: str = ""
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Take the time of a block."""
        started = time.perf_counter()
        yield
        self.seconds.setdefault(operation, []).append(time.perf_counter() - started)


def act(subject: Subject, users: int, *, patience: float) -> Trial:
    """Act as so many users.

    Args:
        patience: seconds within which a write has to arrive in the other store.

    Raises:
        errors.Refused: there are sessions under our ids that are not ours.
        errors.HAL9Error: the client could not write.
    """
    trial = Trial(users=users, mode=subject.client.mode)
    clear(subject, patience=patience)
    both = trial.mode is not Mode.FLAT_ONLY
    trial.compared = (
        "what was written, in both stores" if both
        else "what was written, in the flat store alone: in flat-only no write goes to the hierarchical one"
    )  # fmt: skip
    numbers = range(users)
    try:
        for operation, change in _CHANGES.items():
            for number in numbers:
                with trial.timed(operation):
                    subject.client.put(sessions.SLUG, change(number))
            _compare(subject, trial, operation, numbers, change, both=both, patience=patience)
        for side in StoreName if both else [StoreName.FLAT]:
            _look_up(subject, trial, side, numbers)
    finally:
        clear(subject, patience=patience)
    return trial


def clear(subject: Subject, *, patience: float) -> int:
    """Delete our own sessions and return how many there were; gone from both stores afterwards.

    Raises:
        errors.Refused: there are sessions under our ids that are not ours.
        errors.TimedOut: they are not gone from the other store in time.
    """
    found = {key for side in StoreName for key in _ours(subject, side)}
    for key in found:
        subject.client.delete(sessions.SLUG, key)
    deadline = time.monotonic() + patience
    while any(_ours(subject, side) for side in StoreName):
        if time.monotonic() > deadline:
            raise errors.TimedOut(
                "Sessions of ux-test are still in a store: their deletion has not arrived there.",
                hint="hal9-migrate state fix --auto --category user-sessions",
            )
        time.sleep(_PAUSE)
    with subject.hier, subject.hier.cursor() as cursor:
        # Users are shared and outlive their sessions; nobody else has these.
        cursor.execute(
            "DELETE FROM hier.users u WHERE starts_with(user_id, %s) "
            "AND NOT EXISTS (SELECT FROM hier.sessions s WHERE s.user_id = u.user_id)",
            (_USER,),
        )
    return len(found)


def _ours(subject: Subject, side: StoreName) -> list[str]:
    connection = subject.store(side)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT session_id::text, starts_with(user_id, %s) FROM {sessions.TABLES[side]} "
            "WHERE session_id BETWEEN %s AND %s",
            (_USER, str(_FIRST), str(_LAST)),
        )
        found = cursor.fetchall()
    if not all(ours for _, ours in found):
        raise errors.Refused("There are sessions under the ids that ux-test keeps for its own; nothing was changed.")
    return [key for key, _ in found]


def _session(number: int) -> Record:
    then = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return {
        "session_id": _key(number), "user_id": f"{_USER} {number}", "token_hash": _token(number),
        "ip_address": None, "user_agent": "hal9-migrate ux-test", "active": True, "data": {"trial": number},
        "created_at": then, "last_seen_at": then, "expires_at": then + datetime.timedelta(days=36500),
    }  # fmt: skip


def _touched(number: int) -> Record:
    record = _session(number)
    day = datetime.timedelta(days=1)
    return record | {"last_seen_at": record["last_seen_at"] + day, "expires_at": record["expires_at"] + day}


def _expired(number: int) -> Record:
    record = _touched(number)
    return record | {"active": False, "expires_at": record["last_seen_at"]}


_CHANGES: dict[str, Callable[[int], Record]] = {"log in": _session, "touch": _touched, "expire": _expired}


def _key(number: int) -> str:
    return str(uuid.UUID(int=_FIRST.int + number))


def _token(number: int) -> str:
    return f"hal9-migrate ux-test {number}"


def _compare(
    subject: Subject,
    trial: Trial,
    operation: str,
    numbers: Sequence[int],
    change: Callable[[int], Record],
    *,
    both: bool,
    patience: float,
) -> None:
    """Read what was written, and wait for it where the workers bring it."""
    ruling = subject.client.place().side
    deadline = time.monotonic() + patience
    for number in numbers:
        wanted = change(number)
        for side in StoreName if both else [StoreName.FLAT]:
            while True:
                with trial.timed(f"read {side}"):
                    record = subject.read(side, (_key(number),))
                right = record is not None and all(_plain(record[name]) == _plain(wanted[name]) for name in wanted)
                if right or side is ruling or time.monotonic() > deadline:
                    break
                time.sleep(_PAUSE)
            if not right:
                trial.problems.append(f"user {number}: after {operation} the session is another in the {side} store")


def _look_up(subject: Subject, trial: Trial, side: StoreName, numbers: Sequence[int]) -> None:
    connection = subject.store(side)
    for number in numbers:
        with trial.timed(f"look up {side}"):
            found = sessions.by_token(connection, side, [_token(number)])
        if found.get(_token(number)) != _key(number):
            trial.problems.append(f"user {number}: the token leads to another session in the {side} store")


def _plain(value: object) -> object:
    return str(value) if isinstance(value, uuid.UUID) else value
