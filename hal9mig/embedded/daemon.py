"""Runs something in the background and tells the caller how its start went."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from hal9mig import errors

Say = Callable[[str], None]


def detach(run: Callable[[Say, Callable[[], None]], None], *, say: Say, log: pathlib.Path) -> None:
    """Run ``run(say, ready)`` in a process of its own that outlives this one; return once it called ``ready``.

    Args:
        run: the work; what it says before it is ready is handed on to ``say`` here.
        say: told what the background process said.
        log: where its output goes; its folder is there.

    Raises:
        errors.HAL9Error: the work ended before it was ready; with the same words, hint and code.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _work(run, os.fdopen(writer, "w", encoding="utf-8"), log)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stream:
        try:
            for line in stream:
                message = json.loads(line)
                if "say" in message:
                    say(message["say"])
                elif "error" in message:
                    os.waitpid(pid, 0)
                    raise _error(message["error"])
                else:
                    return
        except KeyboardInterrupt:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            raise
    os.waitpid(pid, 0)
    raise errors.StackFailed("The supervisor ended before everything was up.", hint=f"read {log}")


def _work(run: Callable[[Say, Callable[[], None]], None], stream: object, log: pathlib.Path) -> NoReturn:
    code = errors.EXIT_FAILED
    pipe: list[object] = [stream]

    def send(message: dict[str, object]) -> None:
        # Nobody listens any more once it is ready, or when the caller has gone.
        for target in pipe:
            try:
                print(json.dumps(message), file=target, flush=True)  # type: ignore[call-overload]
            except OSError:
                pipe.clear()

    def ready() -> None:
        send({"ready": True})
        for target in pipe:
            target.close()  # type: ignore[attr-defined]
        pipe.clear()

    try:
        os.setsid()
        os.umask(0o022)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        for number, target in ((0, nothing), (1, output), (2, output)):
            os.dup2(target, number)
        run(lambda line: send({"say": line}), ready)
        code = errors.EXIT_OK
    except errors.HAL9Error as error:
        send({"error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}})
    except BaseException as error:
        traceback.print_exc()
        send({"error": {"type": "StackFailed", "message": f"The supervisor failed: {error}", "hint": f"read {log}"}})
    finally:
        # Not sys.exit: what the caller has open and registered is the caller's to close.
        os._exit(code)


def _error(sent: dict[str, str]) -> errors.HAL9Error:
    kind = getattr(errors, sent["type"], errors.StackFailed)
    error: errors.HAL9Error = kind(sent["message"], hint=sent["hint"])
    return error
