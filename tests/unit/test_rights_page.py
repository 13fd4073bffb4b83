"""The page of rights says what the table of rights says.

After a change on purpose: ``python -m tests.unit.test_rights_page`` writes the page's table anew.
"""

from __future__ import annotations

import pathlib

from hal9mig.cli.commands import db
from hal9mig.stores import rights

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "rights.md"
_HEAD = "| role | store | on | privileges | why |"


def table() -> str:
    """Return the page's table."""
    lines = [_HEAD, "|---|---|---|---|---|"]
    for right in rights.RIGHTS:
        stores = "both" if len(right.stores) == 2 else right.stores[0].value
        on = f"{right.kind} {right.on}".strip()
        privileges = ", ".join(right.privileges) or "membership in the owner"
        lines.append(f"| {', '.join(right.roles)} | {stores} | {on} | {privileges} | {right.why} |")
    return "\n".join(lines) + "\n"


def test_the_page_holds_every_right() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(_HEAD) :] == table(), "write it anew: python -m tests.unit.test_rights_page"


def test_the_command_line_knows_the_same_roles() -> None:
    assert db._ROLES == rights.ROLES
    assert {role for right in rights.RIGHTS for role in right.roles} == set(rights.ROLES)


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").partition(_HEAD)[0] + table(), encoding="utf-8")
