"""``hal9-migrate certificates``: what each switch over was based on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import lazy_group, options
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.ledger.mode import Certificate

_LIST = """List the certificates of the switches to hierarchical-only, the newest first.

\b
Examples:
  hal9-migrate certificates list
"""
_SHOW = """Show a certificate: every condition of the gate, the records of both sides, and its hash, computed anew.

Exit 3 where the certificate is not what was sealed.

\b
Examples:
  hal9-migrate certificates show 1
"""


@click.group(cls=lazy_group.Group)
def certificates() -> None:
    """See what each switch over was based on."""


@certificates.command("list", help=_LIST)
@options.output
@pass_call
def list_(call: Invocation) -> None:
    from hal9mig.ledger import mode

    with call.ledger.begin() as session:
        found = mode.certificates(session, limit=1000)
    if not call.json and found:
        rows = [[one.id, call.console.when(one.at), one.actor, _records(one), _sound(one)] for one in found]
        call.console.table(["CERTIFICATE", "WHEN", "BY", "RECORDS", "HASH"], rows, numbers=("RECORDS",))
    if not found:
        call.console.say("no switch to hierarchical-only was made yet")
    documents = [{"certificate": one.id, "at": one.at, "by": one.actor, "sound": _is_sound(one)} for one in found]
    steps = [f"hal9-migrate certificates show {found[0].id}"] if found else []
    call.conclude({"certificates": documents, "next_steps": steps})


@certificates.command(help=_SHOW)
@click.argument("number", type=int, metavar="NUMBER")
@options.output
@pass_call
def show(call: Invocation, number: int) -> None:
    from hal9mig.ledger import mode

    with call.ledger.begin() as session:
        found = [one for one in mode.certificates(session, limit=100_000) if one.id == number]
    if not found:
        raise errors.NotFound(f"There is no certificate {number}.", hint="hal9-migrate certificates list")
    (one,) = found
    sound = _is_sound(one)
    if not call.json:
        call.console.verdict(sound, f"certificate {one.id}: {_sound(one)}")
        call.console.line(f"made {call.console.when(one.at)} by {one.actor}")
        for predicate in one.document.get("predicates", []):
            call.console.verdict(predicate["holds"], f"{predicate['name']}: {predicate['evidence']}")
        rows = [
            [slug, *(units.format_count(counts[side]) for side in ("flat", "hierarchical", "quarantined"))]
            for slug, counts in one.document.get("records", {}).items()
        ]
        columns = ["FLAT", "HIERARCHICAL", "QUARANTINED"]
        call.console.table(["CATEGORY", *columns], rows, numbers=columns)
        call.console.line(f"SHA-256: {one.document.get('sha256', 'none')}")
    problem = None if sound else errors.ChecksFailed(f"Certificate {one.id} is not what was sealed.", hint="")
    document = {"certificate": one.id, "at": one.at, "by": one.actor, "sound": sound, "document": dict(one.document)}
    call.conclude(document | {"next_steps": []}, problem)


def _is_sound(one: Certificate) -> bool:
    from hal9mig.engine.switch import gate

    return bool(gate.sealed(one.document)["sha256"] == one.document.get("sha256"))


def _sound(one: Certificate) -> str:
    return "as it was sealed" if _is_sound(one) else "changed since it was sealed"


def _records(one: Certificate) -> str:
    return units.format_count(sum(counts["flat"] for counts in one.document.get("records", {}).values()))
