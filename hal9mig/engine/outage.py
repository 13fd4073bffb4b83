"""What a process says of servers that fail: one line when that begins, one when it is over."""

from __future__ import annotations

import logging
import threading

from hal9mig import errors, safe_text

log = logging.getLogger(__name__)


class Outage:
    """The outages that one process meets; its threads share it, so that each is told once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._met: dict[str, set[str]] = {}

    def failed(self, doing: str, error: BaseException) -> None:
        """Tell that something failed: in a line when that begins, after that with its traceback and for debugging."""
        text = safe_text.masked(" ".join(str(error).split()))
        # What names no server is no outage of one that others may have told: it is told by whoever meets it.
        server = str(error.context.get("server", doing)) if isinstance(error, errors.HAL9Error) else doing
        with self._lock:
            begins = server not in self._met
            self._met.setdefault(server, set()).add(doing)
        if begins:
            log.warning("%s failed, and is tried again: %s", doing, text)
        else:
            log.debug("%s failed again", doing, exc_info=error)

    def passed(self, doing: str) -> None:
        """Tell that it went well; the last of those who met an outage tells that it is over."""
        with self._lock:
            over = [server for server, met in self._met.items() if met == {doing}]
            for met in self._met.values():
                met.discard(doing)
            for server in over:
                del self._met[server]
        for server in over:
            log.warning("%s goes on%s", doing, "" if server == doing else f": {server} answers again")
