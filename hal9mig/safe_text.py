"""Texts that may be shown: secrets masked, control characters escaped, JSON that every reader takes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

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


def json_text(
    document: object,
    *,
    indent: int | None = None,
    ascii_only: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Return a document as JSON; numbers that JSON cannot write, NaN and the infinities, are texts in it."""
    try:
        return json.dumps(document, indent=indent, ensure_ascii=ascii_only, default=default, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(document), indent=indent, ensure_ascii=ascii_only, default=default, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
