"""Publishing batches and looking at the queue's depth."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from hal9mig import errors, model
from hal9mig.queue import app as queue_app

if TYPE_CHECKING:
    # Late: a command that asks how the queue is needs neither, and each takes longer to load than the command.
    import celery
    import redis

#: Seconds that Redis has for an answer.
_PATIENCE = 5.0


def task_id(category: str, run_id: int, seq: int, attempt: int) -> str:
    """Return the id under which an attempt of a batch is published."""
    return f"{category}-r{run_id}-b{seq}-a{attempt}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """A batch to publish: ids only, texts that Flower shows, and the word of the command that ordered it."""

    run_id: int
    seq: int
    attempt: int
    priority: model.Priority
    category: str
    kind: str
    range: str
    correlation: str = ""

    @property
    def task_id(self) -> str:
        """Readable and unique: ``neuron-states-r7-b12-a1``."""
        return task_id(self.category, self.run_id, self.seq, self.attempt)


class Broker:
    """Redis as the way work travels; what it loses, the ledger publishes again.

    Args:
        make: makes the application that publishes, when something is published for the first time.
    """

    def __init__(self, make: Callable[[], celery.Celery], redis_url: str, prefix: str):
        self._make = make
        self._prefix = prefix
        self._server = where(redis_url)
        self._url = redis_url
        queue = f"{prefix}{queue_app.BATCH_QUEUE}"
        self._lists = [f"{queue}:{step}" if step else queue for step in queue_app.PRIORITY_STEPS]

    @functools.cached_property
    def _app(self) -> celery.Celery:
        return self._make()

    @functools.cached_property
    def _redis(self) -> redis.Redis:
        return connect(self._url)

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish batches in one pipeline.

        Raises:
            errors.QueueUnreachable: Redis does not answer; some may have arrived.
        """
        pool = self._app.producer_pool
        with self._sending(), pool.acquire(block=True) as producer, producer.batch():  # type: ignore[attr-defined]
            for message in messages:
                self._app.send_task(
                    queue_app.BATCH_TASK,
                    args=(message.run_id, message.seq, message.attempt),
                    task_id=message.task_id,
                    queue=queue_app.BATCH_QUEUE,
                    priority=int(message.priority),
                    producer=producer,
                    shadow=f"{message.kind} {message.category}",
                    argsrepr=f"run {message.run_id}, batch {message.seq}, attempt {message.attempt}",
                    kwargsrepr=f"{message.category} {message.range}",
                    headers={queue_app.CORRELATION: message.correlation},
                )

    def control(self, task: str, args: Sequence[object], *, shown: str, expires: float) -> None:
        """Publish an errand ahead of all batches; it is dropped when nobody takes it in ``expires`` seconds.

        Raises:
            errors.QueueUnreachable: Redis does not answer.
        """
        with self._sending():
            self._app.send_task(task, args=tuple(args), expires=expires, argsrepr=shown, **queue_app.ERRAND)

    @contextlib.contextmanager
    def _sending(self) -> Iterator[None]:
        import kombu.exceptions
        import redis

        try:
            yield
        except (kombu.exceptions.OperationalError, redis.RedisError, OSError) as error:
            raise unsendable(self._server, error) from error

    def depth(self) -> int:
        """Return the number of batch messages that wait or are in workers' hands.

        Raises:
            errors.QueueUnreachable: Redis does not answer.
        """
        with _asking(), self._redis.pipeline(transaction=False) as pipe:
            for key in self._lists:
                pipe.llen(key)
            pipe.hlen(f"{self._prefix}unacked")
            return sum(pipe.execute())

    def missing(self, task_ids: Collection[str]) -> set[str]:
        """Return those of some published batches whose messages do not wait in the queue.

        What a worker has taken does not wait either: it is claimed in the ledger within moments.

        Raises:
            errors.QueueUnreachable: Redis does not answer.
        """
        with _asking(), self._redis.pipeline(transaction=False) as pipe:
            for key in self._lists:
                pipe.llen(key)
            # The usual answer, which needs no message to be read: every one is there.
            if sum(pipe.execute()) >= len(task_ids):
                return set()
            for key in self._lists:
                pipe.lrange(key, 0, -1)
            waiting = {_task_id(text) for texts in pipe.execute() for text in texts}
        return set(task_ids) - waiting

    def ping(self) -> None:
        """Check that Redis answers, and load what publishes: an order that follows does not wait for that.

        Raises:
            errors.QueueUnreachable: it does not.
            errors.LoginRefused: it refuses the password.
        """
        self._app.connection_for_write().get_transport_cls()
        ping(self._url, patience=_PATIENCE)


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise unreachable(error) from error


def _task_id(text: bytes) -> str:
    """Return the id in a message as kombu puts it into a list."""
    try:
        return str(json.loads(text)["headers"]["id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def ping(redis_url: str, *, patience: float) -> None:
    """Check that Redis answers, without waiting long for it.

    Raises:
        errors.QueueUnreachable: it does not.
        errors.LoginRefused: it refuses the password.
    """
    with contextlib.closing(connect(redis_url, patience=patience)) as client, _asking():
        client.ping()


def connect(redis_url: str, *, patience: float = _PATIENCE) -> redis.Redis:
    """Return a client for a Celery-style Redis URL; nothing is sent yet."""
    import redis

    # Celery spells a socket redis+socket:///path?virtual_host=2, redis-py unix:///path?db=2.
    url = redis_url.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
    try:
        client: redis.Redis = redis.Redis.from_url(url, socket_timeout=patience, socket_connect_timeout=patience)
    except ValueError as error:
        raise errors.InvalidSettings(
            f"Redis's address cannot be read: {error}", hint="redis://:password@host:6379/0"
        ) from None
    return client


def where(redis_url: str) -> str:
    """Return the host, port and database of a Redis URL, or its socket's path."""
    return redis_url.rpartition("@")[2].partition("://")[2] or redis_url.rpartition("@")[2]


def unsendable(server: str, error: Exception) -> errors.QueueUnreachable:
    """Return our error for a message that did not get to a server."""
    return errors.QueueUnreachable(f"Redis at {server} cannot be reached: {error}", server=server)


def unreachable(error: Exception) -> errors.HAL9Error:
    """Return our error for one of Redis's."""
    import redis

    if isinstance(error, redis.AuthenticationError):
        return errors.LoginRefused(f"Redis refused the login: {error}")
    return errors.QueueUnreachable(f"Redis cannot be reached: {error}")
