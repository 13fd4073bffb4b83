"""``hal9-migrate config compare``: the application's configuration in both stores, key by key."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING

import click

from hal9mig import errors
from hal9mig.cli import check_table, options, report_file
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal9mig.checks.configuration import KeyDifference
    from hal9mig.checks.subject import Subject
    from hal9mig.ledger.check_results import CheckOutcome

_HELP = """Compare the application's configuration in both stores: every key in value and type, by whom and when it was
set, and its version; exit 3 where one differs. A write on its way is no difference. Secrets are masked.

\b
Examples:
  hal9-migrate config compare --system1 flat --system2 hierarchical --report config-diff.txt
"""


@click.command(help=_HELP)
@click.option("--system1", type=options.STORE, default="flat", show_default=True, help="One store.")
@click.option("--system2", type=options.STORE, default="hierarchical", show_default=True, help="The other one.")
@click.option("--report", type=options.PATH, metavar="FILE", help="Write it as text, or as .json.")
@options.output
@pass_call
def compare(call: Invocation, system1: str, system2: str, report: pathlib.Path | None) -> None:
    from hal9mig.checks import configuration, single
    from hal9mig.ledger import database

    if system1 == system2:
        raise errors.UsageError(
            "--system1 and --system2 are the same store.", hint="--system1 flat --system2 hierarchical"
        )
    if report is not None:
        report_file.require_folder(report)
    call.system.require_ready()
    found: list[KeyDifference] = []

    def looked(subject: Subject) -> CheckOutcome:
        outcome, differences = configuration.compare(subject)
        found.extend(differences)
        return outcome

    outcome = single.run(call.system, "configuration", looked, command="config compare", actor=database.actor())
    if not call.json:
        check_table.show(call, outcome, suggestions=True)
        rows = [[one.key, *(_told(value) for value in _sides(one, system1))] for one in found]
        if rows:
            call.console.table(["KEY", system1.upper(), system2.upper()], rows)
    document = {
        "checks": check_table.document([outcome]),
        "differences": [{"key": one.key, "flat": one.flat, "hierarchical": one.hier} for one in found],
        "next_steps": check_table.next_steps([outcome]),
    }
    if report is not None:
        if report.suffix.lower() == ".json":
            report_file.write(report, document)
        else:
            report_file.write_bytes(report, _text(outcome, found, system1, system2))
        call.console.say(f"report: {report}")
    call.conclude(document, check_table.problem([outcome]))


def _text(outcome: CheckOutcome, found: Sequence[KeyDifference], first: str, second: str) -> bytes:
    lines = [f"configuration, {first} and {second}: {outcome.verdict}: {outcome.detail}"]
    for one in found:
        left, right = _sides(one, first)
        lines += ["", one.key, f"- {first}: {_told(left)}", f"+ {second}: {_told(right)}"]
    return ("\n".join(lines) + "\n").encode()


def _sides(one: KeyDifference, first: str) -> tuple[object, object]:
    return (one.flat, one.hier) if first == "flat" else (one.hier, one.flat)


def _told(value: object) -> str:
    return "not there" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)
