"""The real dashboard in a thread of the test, and somebody who visits it without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import html
import http.client
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.cookies import SimpleCookie

from hal9mig.dashboard import access, server
from hal9mig.settings import Settings

TOKEN = "a token that nobody guesses"
PATIENCE = 30.0


@contextlib.contextmanager
def running(resolved: Settings, *, anyone_may_read: bool = False) -> Iterator[int]:
    """Answer on a free port of loopback for the length of a block."""
    let_in = access.decide(resolved, anyone_may_read=anyone_may_read)
    sockets = server.listen("127.0.0.1", 0)
    ports: list[int] = []
    ready, told = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    def note(port: int) -> None:
        ports.append(port)
        ready.set()

    def answer() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(server.answer(resolved, let_in, sockets, ready=note, told=told))
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=answer, name="dashboard")
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(told.set)
        thread.join(PATIENCE)
        assert not thread.is_alive()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def location(self) -> str:
        """Where it leads."""
        return self.headers.get("Location", "")

    @property
    def form_key(self) -> str:
        """What a form of this page carries."""
        found = re.search(r'name="_xsrf" value="([^"]+)"', self.text)
        assert found, self.text[:2000]
        return html.unescape(found[1])

    @property
    def buttons(self) -> set[str]:
        """What can be pressed: ``7/pause``."""
        return set(re.findall(r'action="[./]*run/(\d+/\w+)"', self.text))


class Visitor:
    """Keeps cookies, as a browser does."""

    def __init__(self, port: int):
        self.port = port
        self.cookies: dict[str, str] = {}
        self.origin = f"http://127.0.0.1:{port}"

    def get(self, path: str = "/", **headers: str) -> Answer:
        """Ask for a page."""
        return self._ask("GET", path, None, headers)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """Send a form."""
        return self._ask("POST", path, fields, {"Origin": self.origin} | headers)

    def press(self, order: str, *, back: str = "run") -> Answer:
        """Press a button, as ``7/pause``, on the page that shows it."""
        run_id = order.partition("/")[0]
        page = self.get(f"/run/{run_id}" if back == "run" else "/")
        return self.post(f"/run/{order}", {"_xsrf": page.form_key, "back": back})

    def log_in(self, token: str = TOKEN, *, name: str = "maria") -> Answer:
        """Enter a token."""
        return self.post("/login", {"_xsrf": self.get("/login").form_key, "name": name, "token": token})

    def _ask(self, method: str, path: str, fields: Mapping[str, str] | None, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        sent = dict(headers)
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if fields is not None:
            body = urllib.parse.urlencode(fields)
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        for name, value in answer.getheaders():
            if name == "Set-Cookie":
                for key, morsel in SimpleCookie(value).items():
                    self.cookies[key] = morsel.value
        return Answer(status=answer.status, headers=dict(answer.getheaders()), text=text)
