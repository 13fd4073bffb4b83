"""What the text of a setting means."""

from __future__ import annotations

import pathlib
import urllib.parse

from hal9mig import errors, units


def names(value: object) -> list[str]:
    """Return a list that may be written as one text, with commas."""
    listed = value if isinstance(value, (list, tuple)) else str(value).split(",")
    return [str(name).strip() for name in listed if str(name).strip()]


def place(url: str) -> str:
    """Return a URL, or a folder by its whole path."""
    # A stack's processes work in another folder than the command that names this one.
    return url if ":" in url else str(pathlib.Path(url).absolute())


def log_format(text: str) -> str:
    """Return a form of a log.

    Raises:
        errors.InvalidUnit: there is none of this name.
    """
    if text not in ("text", "json"):
        raise errors.InvalidUnit(f"{text!r} is no form of a log.", hint="text or json")
    return text


def address(text: str) -> str:
    """Return the text of a URL.

    Raises:
        errors.InvalidUnit: it is none.
    """
    try:
        urllib.parse.urlsplit(text)
    except ValueError as error:
        raise errors.InvalidUnit(f"It is no address: {error}.") from None
    return text


def keep(text: str) -> int:
    """Return how many are kept; 0 is all.

    Raises:
        errors.InvalidUnit: it is no number.
    """
    return 0 if text.strip() == "0" else units.parse_count(text)


def path(value: object) -> pathlib.Path | None:
    """Return the whole path of a file that may be named."""
    return pathlib.Path(str(value)).absolute() if value else None


def text(value: object) -> str | None:
    """Return a text that may be given."""
    return None if value is None else str(value)
