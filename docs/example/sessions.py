"""A web application that keeps its sessions with hal9mig.client, through every mode of a migration.

    GET    /sessions                  the active ones, in the order of their keys; ?after=ID goes on
    GET    /sessions/ID               one session
    PUT    /sessions/ID               {"user": ..., "data": {...}} makes or changes one
    DELETE /sessions/ID               ends one
    POST   /sessions/ID/token/OTHER   lets two sessions exchange their tokens
    GET    /report                    what can wait while the state is being migrated
    GET    /mode                      the write mode

The addresses of the stores come from the settings, as for hal9-migrate.
"""

from __future__ import annotations

import argparse
import datetime
import http.server
import json
import secrets
import urllib.parse
from typing import Any

from hal9mig import client, errors

CATEGORY = "user-sessions"
PAGE = 100
_STATUS = {errors.Conflict: 409, errors.OperationPaused: 503, errors.InvalidRecord: 400, errors.RecordRefused: 400}

Answer = tuple[int, Any]


class Sessions:
    """What the application does; it knows nothing of modes."""

    def __init__(self, state: client.Client):
        self._state = state

    def listed(self, after: str | None) -> Answer:
        """Return a page of active sessions."""
        found = self._state.scan(CATEGORY, after=after, limit=PAGE, filter="active = true")
        return 200, [_shown(record) for record in found]

    def one(self, session: str) -> Answer:
        """Return a session."""
        record = self._state.get(CATEGORY, session)
        return (404, None) if record is None else (200, _shown(record))

    def put(self, session: str, body: dict[str, Any]) -> Answer:
        """Make a session, or change it; what another request changed meanwhile is not overwritten."""
        now = datetime.datetime.now(datetime.UTC)
        there = self._state.get(CATEGORY, session)
        record = there or {
            "session_id": session,
            "token_hash": secrets.token_hex(16),
            "ip_address": None,
            "user_agent": None,
            "active": True,
            "created_at": now,
            "expires_at": None,
        }
        changed = record | {"user_id": body["user"], "data": body.get("data", {}), "last_seen_at": now}
        version = self._state.put(CATEGORY, changed, expected_version=there["version"] if there else 0)
        return 200 if there else 201, {"version": version}

    def delete(self, session: str) -> Answer:
        """End a session."""
        return (204, None) if self._state.delete(CATEGORY, session) else (404, None)

    def swap(self, one: str, other: str) -> Answer:
        """Let two sessions exchange their tokens, which are unique, in one transaction."""
        first, second = self._state.get(CATEGORY, one), self._state.get(CATEGORY, other)
        if first is None or second is None:
            return 404, None
        with self._state.transaction() as together:
            together.put(CATEGORY, first | {"token_hash": secrets.token_hex(16)}, expected_version=first["version"])
            together.put(CATEGORY, second | {"token_hash": first["token_hash"]}, expected_version=second["version"])
            together.put(CATEGORY, first | {"token_hash": second["token_hash"]})
        return 204, None

    def report(self) -> Answer:
        """Count sessions by user: nothing that could not wait."""
        with self._state.operation("reports"):
            users: dict[str, int] = {}
            for record in self._state.scan(CATEGORY):
                users[record["user_id"]] = users.get(record["user_id"], 0) + 1
            return 200, users

    def mode(self) -> Answer:
        """Return the write mode."""
        return 200, {"mode": self._state.mode}


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": record["session_id"],
        "user": record["user_id"],
        "token": record["token_hash"],
        "data": record["data"],
        "version": record["version"],
    }


def answer(sessions: Sessions, method: str, target: str, body: dict[str, Any]) -> Answer:
    """Return the status and the document of a request."""
    address = urllib.parse.urlsplit(target)
    after = urllib.parse.parse_qs(address.query).get("after", [None])[0]
    try:
        match method, address.path.strip("/").split("/"):
            case "GET", ["sessions"]:
                return sessions.listed(after)
            case "GET", ["sessions", session]:
                return sessions.one(session)
            case "PUT", ["sessions", session]:
                return sessions.put(session, body)
            case "DELETE", ["sessions", session]:
                return sessions.delete(session)
            case "POST", ["sessions", one, "token", other]:
                return sessions.swap(one, other)
            case "GET", ["report"]:
                return sessions.report()
            case "GET", ["mode"]:
                return sessions.mode()
    except errors.HAL9Error as error:
        return _STATUS.get(type(error), 500), {"error": error.message, "code": error.code}
    except KeyError as error:
        return 400, {"error": f"{error} is missing"}
    return 404, None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        except ValueError:
            body = {}
        status, document = answer(self.server.sessions, self.command, self.path, body)
        data = b"" if document is None else json.dumps(document, default=str).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_DELETE = do_POST = _answer


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self, port: int, sessions: Sessions):
        super().__init__(("127.0.0.1", port), _Handler)
        self.sessions = sessions


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A web application that keeps its sessions with hal9mig.client.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    port = parser.parse_args().port
    with client.connect(application_name="sessions example") as state, _Server(port, Sessions(state)) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
