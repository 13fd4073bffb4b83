"""Texts that may be shown: secrets masked, control characters escaped."""

from __future__ import annotations

import re

# A password ends at the LAST @ of the authority, so that one containing @ or : is masked whole.
_URL_SECRET = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*):(?P<secret>[^\s/]*)@", re.I)
_KEYWORD_SECRET = re.compile(r"(?P<head>\b(?:password|passwd|secret|token)\s*=\s*)('[^']*'|\S+)", re.I)
# Controls but tab and newline, and the signs that turn the direction of writing.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def masked(text: str) -> str:
    """Return ``text`` with the password of every URL and connection string replaced by ``***``."""
    text = _URL_SECRET.sub(r"\g<head>:***@", text)
    return _KEYWORD_SECRET.sub(r"\g<head>***", text)


def printable(text: str) -> str:
    """Return a text with its control characters as escapes: a record's content must not steer a terminal."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def printable_json(text: str) -> str:
    """Return a JSON text with the control characters that JSON lets stand as they are in its own escapes."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
