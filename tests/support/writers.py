"""Writers that keep account of what was acknowledged to them, while a migration and its switches go on."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg2
import psycopg2.extensions

from hal9mig import errors
from hal9mig.stores import capture
from tests.support import migration_driver
from tests.support.live_state import CONFIGURATION, MAKERS, NEURONS, SESSIONS, World


@dataclasses.dataclass
class Account:
    """What a writer knows: of each of its keys every state that may be there; one, unless a commit's answer was lost.

    ``None`` is no record.
    """

    may_be: dict[tuple[str, str], set[Any]] = dataclasses.field(default_factory=dict)
    acknowledged: int = 0
    unknown: int = 0


class Writers:
    """Threads that write until they are told to stop, each on keys of its own, and remember what was acknowledged."""

    def __init__(self, world: World, *, seed: int = 0):
        self.world = world
        self.accounts: list[Account] = []
        self.problems: list[BaseException] = []
        self._seed = seed
        self._client = world.client(patience=60.0)
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def through_client(self, count: int, *, pause: float = 0.0, keys: int = 12) -> None:
        """Start threads that write through the client, wherever the writes go at that moment."""
        for _ in range(count):
            self._start(self._by_client, pause, keys)

    def plain(self, count: int, *, pause: float = 0.0, keys: int = 12) -> None:
        """Start threads that know nothing of the client and write the flat store, while that takes writes."""
        for _ in range(count):
            self._start(self._by_sql, pause, keys)

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged so far."""
        return sum(account.acknowledged for account in self.accounts)

    def more(self, count: int = 60) -> None:
        """Wait until so many more writes were acknowledged."""
        wanted = self.acknowledged + count
        migration_driver.until(lambda: self.problems or self.acknowledged >= wanted, f"{count} more writes")
        self.check()

    def check(self) -> None:
        """Raise what went wrong in a writer."""
        for problem in self.problems:
            raise problem

    def stop(self) -> None:
        """Stop the writers and wait for them."""
        self._over.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive(), "a writer hangs"
        self._client.close()

    def assert_kept(self) -> None:
        """Assert that the flat store has exactly what the writers were told: nothing missing, old or resurrected."""
        self.check()
        notes = {category: self.world.notes(category) for category in MAKERS}
        for account in self.accounts:
            assert account.acknowledged
            for (category, key), states in account.may_be.items():
                assert notes[category].get(key) in states, (category, key)
        known = {key for account in self.accounts for key in account.may_be}
        assert {(category, key) for category, found in notes.items() for key in found} <= known

    def _start(self, body: Callable[[random.Random, Account, int, float, int], None], pause: float, keys: int) -> None:
        account = Account()
        number = len(self.accounts)
        self.accounts.append(account)

        def run() -> None:
            try:
                body(random.Random(self._seed * 100 + number), account, number, pause, keys)
            except BaseException as problem:
                self.problems.append(problem)

        thread = threading.Thread(target=run, name=f"writer {number}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _keys(self, number: int, keys: int) -> list[tuple[str, str]]:
        named = [(CONFIGURATION, f"writer.{number}.{at}") for at in range(keys)]
        return named + [
            (category, str(uuid.UUID(int=(number + 1) << 64 | place << 32 | at, version=4)))
            for place, category in enumerate((SESSIONS, NEURONS))
            for at in range(keys)
        ]

    def _by_client(self, chance: random.Random, account: Account, number: int, pause: float, keys: int) -> None:
        mine, count = self._keys(number, keys), 0
        while not self._over.is_set():
            chosen = chance.sample(mine, chance.choice((1, 1, 1, 3)))
            notes: dict[tuple[str, str], Any] = {}
            for place in chosen:
                count += 1
                notes[place] = None if chance.random() < 0.25 else f"{number}/{count}"
            try:
                with self._client.transaction() as together:
                    for (category, key), note in notes.items():
                        if note is None:
                            together.delete(category, key)
                        else:
                            together.put(category, MAKERS[category](key, note))
            except errors.OutcomeUnknown:
                account.unknown += 1
                for place, note in notes.items():
                    account.may_be.setdefault(place, {None}).add(note)
                continue
            account.may_be.update({place: {note} for place, note in notes.items()})
            account.acknowledged += 1
            time.sleep(pause * chance.random())

    def _by_sql(self, chance: random.Random, account: Account, number: int, pause: float, keys: int) -> None:
        mine, count = [key for category, key in self._keys(number, keys) if category == SESSIONS], 0
        closed = (capture.STALE_EPOCH, capture.STORE_CLOSED)
        with contextlib.closing(psycopg2.connect(self.world.stores.flat_url, application_name="plain")) as connection:
            while not self._over.is_set():
                count += 1
                changes: dict[tuple[str, str], set[Any]] = {}
                try:
                    with connection, connection.cursor() as cursor:
                        changes = self._plain_write(cursor, chance, account, mine, f"{number}/{count}")
                except psycopg2.Error as error:
                    if error.pgcode not in (*closed, "40P01"):
                        raise
                    time.sleep(0.05)
                    continue
                account.may_be.update(changes)
                account.acknowledged += 1
                time.sleep(pause * chance.random())

    @staticmethod
    def _plain_write(
        cursor: psycopg2.extensions.cursor, chance: random.Random, account: Account, mine: list[str], note: str
    ) -> dict[tuple[str, str], set[Any]]:
        """Write as somebody does who never heard of versions: they are whatever comes."""
        one, other = chance.sample(mine, 2)
        there = {key: None not in account.may_be.get((SESSIONS, key), {None}) for key in (one, other)}
        kind = chance.random()
        if all(there.values()) and kind < 0.5:
            cursor.execute(
                "SELECT session_id::text, token_hash FROM flat.user_sessions WHERE session_id IN (%s, %s)", (one, other)
            )
            tokens = dict(cursor.fetchall())
            cursor.execute("UPDATE flat.user_sessions SET token_hash = 'away ' || token_hash WHERE session_id = %s",
                           (one,))  # fmt: skip
            for key, token in ((other, tokens[one]), (one, tokens[other])):
                cursor.execute("UPDATE flat.user_sessions SET token_hash = %s WHERE session_id = %s", (token, key))
            return {}
        if there[one] and not there[other]:
            # The key itself changes: one record goes and another comes.
            old = account.may_be[SESSIONS, one]
            cursor.execute("UPDATE flat.user_sessions SET session_id = %s WHERE session_id = %s", (other, one))
            return {(SESSIONS, one): {None}, (SESSIONS, other): old}
        if there[one] and kind < 0.8:
            cursor.execute("DELETE FROM flat.user_sessions WHERE session_id = %s", (one,))
            return {(SESSIONS, one): {None}}
        cursor.execute("DELETE FROM flat.user_sessions WHERE session_id = %s", (one,))
        cursor.execute(
            "INSERT INTO flat.user_sessions SELECT %s, 'plain', %s, NULL, NULL, true, jsonb_build_object('note', "
            "%s::text), now(), now(), NULL, %s",
            (one, f"fresh of {one} {note}", note, chance.randrange(100)),
        )
        return {(SESSIONS, one): {note}}
