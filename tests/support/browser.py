"""A real headless Chromium, steered over its DevTools protocol: pages, keys, pictures, and what it complains of."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from tornado import websocket

#: Seconds to wait for what has to happen; only a hung browser needs them.
PATIENCE = 30.0
#: What a Chromium is called.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--no-proxy-server", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32}


def found() -> str | None:
    """Return where a Chromium is, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def ready() -> str | None:
    """Return where a Chromium is; it is installed where there is none, and this account and system can do so."""
    if (program := found()) is not None or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return program
    apt = ["apt-get", "-qq", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=0"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["install"], ["update"], ["install"]):
        what = ["--yes", "--no-install-recommends", "chromium"] if words == ["install"] else []
        # A system without a network gives up after seconds; then there is none.
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([*apt, *words, *what], env=env, capture_output=True, timeout=60, check=False)
        if (program := found()) is not None:
            return program
    return None


class Browser:
    """One tab.

    Attributes:
        complaints: what the page's console had to say: errors of scripts, and of the content security policy.
    """

    def __init__(self, program: str, profile: pathlib.Path):
        self.complaints: list[str] = []
        self._number = 0
        self._loop = asyncio.new_event_loop()
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        port = int(_until(lambda: _port(profile), "the browser listens").partition("\n")[0])
        address = _until(lambda: _tab(port), "the browser has a tab")
        self._socket = self._loop.run_until_complete(_connected(address))
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._loop.close()

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something."""
        return self._loop.run_until_complete(asyncio.wait_for(self._ask(method, params), PATIENCE))

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        number = self._number
        await self._socket.write_message(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            text = await self._socket.read_message()
            assert text is not None, f"the browser went away during {method}"
            message = json.loads(text)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self._heard(message)

    def _heard(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())
        if method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("text", "") + str(params["exceptionDetails"]))

    def open(self, url: str) -> None:
        """Go to a page and wait until all of it is there."""
        self("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """Return what an expression comes to in the page."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true in the page; a page that is just being left only means later."""

        def holds() -> Any:
            try:
                return self.js(f"!!({expression})")
            except AssertionError:
                return None

        _until(holds, expression)

    def key(self, name: str) -> None:
        """Press a key."""
        text = {"Enter": "\r", "Space": " "}.get(name, "")
        pressed = {"key": " " if name == "Space" else name, "code": name, "windowsVirtualKeyCode": _KEYS[name]}
        self("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **pressed)
        self("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def type(self, text: str) -> None:
        """Write into the field that has the focus."""
        self("Input.insertText", text=text)

    def tab_to(self, id: str) -> None:
        """Go to an element by keyboard alone."""
        for _ in range(200):
            if self.js("document.activeElement.id") == id:
                return
            self.key("Tab")
        raise AssertionError(f"{id} is not reached by Tab")

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True) -> None:
        """Set the size of the window, the scheme of colours, and whether scripts run."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self("Emulation.setScriptExecutionDisabled", value=not scripts)

    def picture(self, path: pathlib.Path, *, whole: bool = True) -> None:
        """Write a picture of the page as PNG."""
        made = self("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))


async def _connected(address: str) -> websocket.WebSocketClientConnection:
    return await websocket.websocket_connect(address, max_message_size=2**27)


def _port(profile: pathlib.Path) -> str:
    path = profile / "DevToolsActivePort"
    return path.read_text() if path.exists() else ""


def _tab(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
        tabs = [one for one in json.load(answer) if one["type"] == "page"]
    return str(tabs[0]["webSocketDebuggerUrl"]) if tabs else ""


def _until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"this never came: {what}"
        time.sleep(0.05)
    return value
