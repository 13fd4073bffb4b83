"""``hal9-migrate ux-test``: acts as users, and compares what both stores have then."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from hal9mig import errors
from hal9mig.cli import options
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.checks.acting_users import Trial
    from hal9mig.ledger.check_results import CheckOutcome

_HELP = """Act as users on both stores and compare; exit 3 on any difference.

Each user logs in, is looked up by token and read, touches the session and lets it expire, through the client. That
happens to sessions of the test's own, which are deleted and proven gone from both stores at the end; those of an
interrupted test are deleted first. --verify-sessions reads as many real, valid sessions too and changes none.

In flat-only what is written stays in the flat store, so only real, migrated sessions are compared with the other;
in dual-write and hierarchical-only both stores are compared, and workers have to be alive where they bring writes.

\b
Examples:
  hal9-migrate ux-test --sample-users 100 --verify-sessions
  hal9-migrate ux-test --sample-users 10 --json
"""


@click.command(help=_HELP)
@click.option("--sample-users", type=options.COUNT, default="100", show_default=True, help="As how many users to act.")
@click.option("--verify-sessions", is_flag=True, help="Verify as many real sessions in both stores.")
@click.option("--seed", type=options.SEED, default=1, show_default=True, help="Of the real sessions that are drawn.")
@click.option(
    "--patience",
    type=options.DURATION,
    default="30s",
    show_default=True,
    help="How long a write may take to the other store.",
)
@options.output
@pass_call
def ux_test(call: Invocation, sample_users: int, verify_sessions: bool, seed: int, patience: float) -> None:
    from hal9mig import client
    from hal9mig.checks import acting_users, continuity, sessions
    from hal9mig.checks.subject import Subject
    from hal9mig.engine.desk import Desk
    from hal9mig.ledger import check_results, database

    if sample_users > acting_users.MOST_USERS:
        raise errors.UsageError(f"--sample-users is from 1 to {acting_users.MOST_USERS:,}.")
    call.system.require_ready()
    desk = Desk(call.system)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(client.connect(call.settings, application_name="hal9-migrate ux-test"))
        stack.callback(desk.clear)
        stack.enter_context(desk.trusted())
        subject = Subject(
            system=call.system, client=opened, desk=desk, category=call.system.category(sessions.SLUG),
            sample=sample_users, seed=seed,
        )  # fmt: skip
        verified = continuity.check(subject, sessions.PROMISE) if verify_sessions else None
        trial = acting_users.act(subject, sample_users, patience=patience)
    outcome = _outcome(trial)
    with call.ledger.begin() as session:
        for one in (outcome, verified):
            if one is not None:
                check_results.add(session, one, command="ux-test", actor=database.actor())
    failed = [one for one in (outcome, verified) if one is not None and one.verdict == "failed"]
    if not call.json:
        _show(call, trial, outcome, verified)
    problem = None
    if failed:
        problem = errors.DifferencesFound(failed[0].detail + ".", hint=failed[0].next_command)
    document = {
        "users": sample_users,
        "mode": trial.mode,
        "compared": trial.compared,
        "problems": trial.problems,
        "operations": {name: _figures(taken) for name, taken in trial.seconds.items()},
        "sessions": verified and {"verdict": str(verified.verdict), "detail": verified.detail},
        "next_steps": [one.next_command for one in failed],
    }
    call.conclude(document, problem)


def _outcome(trial: Trial) -> CheckOutcome:
    from hal9mig.checks import sessions
    from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict

    count = len(trial.problems)
    return CheckOutcome(
        category=sessions.SLUG,
        name="ux-test",
        verdict=CheckVerdict.FAILED if count else CheckVerdict.PASSED,
        detail=f"{counted(count, 'difference')}, the first: {trial.problems[0]}" if count
        else f"{counted(trial.users, 'user')} logged in, touched and expired; compared: {trial.compared}",
        next_command="hal9-migrate state validate --category user-sessions --fix-and-retry" if count else "",
        measured={name: _figures(taken) for name, taken in trial.seconds.items()},
    )  # fmt: skip


def _show(call: Invocation, trial: Trial, outcome: CheckOutcome, verified: CheckOutcome | None) -> None:
    call.console.verdict(not trial.problems, outcome.detail)
    if verified is not None and verified.verdict == "skipped":
        call.console.line(f"Sessions not verified: {verified.detail}")
    elif verified is not None:
        call.console.verdict(verified.verdict == "passed", verified.detail)
    rows: list[list[object]] = [
        [name, len(taken), *(f"{value:.2f} ms" for value in _figures(taken).values())]
        for name, taken in trial.seconds.items()
    ]
    call.console.table(["OPERATION", "TIMES", "P50", "P95", "P99"], rows)


def _figures(taken: list[float]) -> dict[str, float]:
    from hal9mig.checks import performance

    return {f"p{share}_ms": round(performance.percentile(taken, share) * 1000, 3) for share in (50, 95, 99)}
