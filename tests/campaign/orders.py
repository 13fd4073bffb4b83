"""What operators order: the course of a migration, and all that contradicts it; commands die in the middle too."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from collections.abc import Callable, Sequence

import psycopg2

from hal9mig import errors, model
from hal9mig.engine.switch.switch import Switch
from hal9mig.ledger import runs
from hal9mig.stores.write_mode import Mode
from tests.campaign.accidents import named
from tests.campaign.site import TUNED, Site
from tests.support.migration_driver import until

#: Seconds in which each step of the course has to be reached, storm or not.
PATIENCE = 300.0
#: More runs than a round has.
_ALL = 10_000
#: Runs under way from which on nobody orders comparisons and checkpoints any more.
_ENOUGH = 12
#: Share of commands that are killed before they end.
_KILLED = 0.15


def command(site: Site, dice: random.Random, *words: str, timeout: float = 120) -> int | None:
    """Run a command; return its exit code, None if it was killed or never ended.

    Raises:
        AssertionError: it ended with a traceback.
    """
    started = site.cli.start(*words)
    killed = dice.random() < _KILLED
    try:
        _, err = started.communicate(timeout=dice.uniform(0.1, 2.0) if killed else timeout)
    except subprocess.TimeoutExpired:
        started.kill()
        _, err = started.communicate()
        site.note("command killed" if killed else f"command without end: {' '.join(words)}")
        assert killed, f"{words} did not end:\n{err}"
        return None
    assert "Traceback" not in err, f"{words}:\n{err}"
    return started.returncode


def enable(site: Site) -> None:
    """Turn dual-write on, however often it takes."""
    _until_mode(site, Mode.DUAL_WRITE, lambda: command(site, site.course, "mode", "migration", "--enable", "--yes"))


def leave_flat(site: Site) -> None:
    """Go over to the hierarchical store; the gate is for those who have time, and has its own tests."""

    def order() -> None:
        with contextlib.suppress(errors.HAL9Error, psycopg2.Error):
            Switch(site.driver.system, actor="campaign").leave_flat(dict)

    _until_mode(site, Mode.HIERARCHICAL_ONLY, order)


def return_to_flat(site: Site) -> None:
    """Go back to the flat store, however often it takes."""
    _until_mode(site, Mode.FLAT_ONLY, lambda: command(site, site.course, "mode", "flat-only", "--yes"))


def migrate(site: Site) -> None:
    """Copy every category to its end; what others cancel is ordered again."""
    ledger = site.driver.system.ledger
    with ledger.single() as session:
        last = max((run.id for run in runs.find(session, limit=1)), default=0)
    missing = set(site.driver.system.registry.categories)
    dice = site.course

    def complete() -> bool:
        with ledger.single() as session:
            found = [run for run in runs.find(session, kind=model.RunKind.MIGRATE, limit=_ALL) if run.id > last]
        active = {run.category for run in found if not run.ended}
        for run in found:
            if run.status is model.RunStatus.SUCCEEDED:
                missing.discard(run.category)
            elif run.status is model.RunStatus.PAUSED and dice.random() < 0.3:
                command(site, dice, "runs", "resume", str(run.id))
        for slug in missing - active:
            command(site, dice, "state", "migrate", "--category", slug, "--merge", "--detach", "--yes", *TUNED)
        time.sleep(0.3)
        return not missing

    until(complete, f"the end of the copies, {missing} are missing", PATIENCE)


def _until_mode(site: Site, wanted: Mode, order: Callable[[], object]) -> None:
    def reached() -> bool:
        line = Switch(site.driver.system, actor="campaign").line()
        if line.mode == wanted and not line.target:
            return True
        order()
        time.sleep(0.2)
        return False

    until(reached, f"the mode {wanted}", PATIENCE)


def _crowded(site: Site) -> bool:
    with contextlib.suppress(errors.HAL9Error), site.driver.system.ledger.single() as session:
        return len(runs.find(session, active=True, limit=_ENOUGH)) == _ENOUGH
    return True


def _one_run(site: Site, dice: random.Random) -> Sequence[model.Run]:
    with contextlib.suppress(errors.HAL9Error), site.driver.system.ledger.single() as session:
        active = runs.find(session, active=True, limit=_ALL)
        return [dice.choice(list(active))] if active else []
    return []


def _pause(site: Site, dice: random.Random) -> None:
    for run in _one_run(site, dice):
        command(site, dice, "runs", "pause", str(run.id))


def _resume(site: Site, dice: random.Random) -> None:
    for run in _one_run(site, dice):
        command(site, dice, "runs", "resume", str(run.id))


def _cancel(site: Site, dice: random.Random) -> None:
    for run in _one_run(site, dice):
        command(site, dice, "runs", "cancel", str(run.id), "--yes")


def _rate(site: Site, dice: random.Random) -> None:
    rate = dice.choice(["off", "off", "500/s", "2000/s", "1MB/s"])
    command(site, dice, "configure", "state-migration", "--rate-limit", rate)


def _parallel(site: Site, dice: random.Random) -> None:
    command(site, dice, "configure", "state-migration", "--parallel-workers", str(dice.randint(1, 8)))


def _verify(site: Site, dice: random.Random) -> None:
    command(site, dice, "state", "verify", "--all-categories", "--timeout", "5s")


def _reconcile(site: Site, dice: random.Random) -> None:
    command(site, dice, "reconcile", "--full", "--fix-mode", dice.choice(["safe", "auto"]), "--timeout", "5s", "--yes")


def _checkpoint(site: Site, dice: random.Random) -> None:
    command(site, dice, "state", "checkpoint", "--full-backup", "--detach")


def _enable_at_once(site: Site, dice: random.Random) -> None:
    command(site, dice, "mode", "migration", "--enable", "--yes")


def _look(site: Site, dice: random.Random) -> None:
    command(site, dice, *dice.choice([("state", "stats"), ("mode",), ("runs", "list"), ("state", "progress")]))


CONTRARY: tuple[Callable[[Site, random.Random], None], ...] = (
    _pause, _pause, _resume, _resume, _cancel, _rate, _rate, _parallel, _verify, _reconcile, _checkpoint,
    _enable_at_once, _look, _look,
)  # fmt: skip


def contradict(site: Site, seed: int, failures: list[BaseException]) -> None:
    """Give contrary orders until the round is over."""
    dice = random.Random(seed)
    try:
        while not site.over.wait(dice.uniform(0.1, 2)):
            order = dice.choice(CONTRARY)
            if order in (_verify, _reconcile, _checkpoint) and _crowded(site):
                continue
            site.note(f"order: {named(order)}")  # type: ignore[arg-type]
            order(site, dice)
    except BaseException as error:
        failures.append(error)


def checkpoint(site: Site) -> None:
    """Keep both stores as they are, while all is quiet."""
    code, _, err = site.cli("state", "checkpoint", "--name", "before", "--full-backup", "--verify")
    assert code == 0, err


def go_back(site: Site) -> None:
    """Restore that checkpoint, however often it takes."""
    ledger, dice = site.driver.system.ledger, site.course

    def restored() -> bool:
        with ledger.single() as session:
            found = runs.find(session, kind=model.RunKind.RESTORE, limit=_ALL)
        for run in found:
            if run.status is model.RunStatus.PAUSED:
                command(site, dice, "runs", "resume", str(run.id))
        if any(run.status is model.RunStatus.SUCCEEDED for run in found):
            return True
        if all(run.ended for run in found):
            command(site, dice, "state", "rollback", "--to-checkpoint", "before", "--force", "--detach", "--yes")
        time.sleep(0.3)
        return False

    until(restored, "the end of the restore", PATIENCE)


def last_word(site: Site) -> None:
    """Take back what contrary orders have left: rates, pauses, runs."""
    code, _, err = site.cli("configure", "state-migration", "--rate-limit", "off", "--parallel-workers", "8")
    assert code == 0, err
    ledger = site.driver.system.ledger

    def ended() -> bool:
        with ledger.single() as session:
            active = runs.find(session, active=True, limit=_ALL)
        for run in active:
            if run.status is model.RunStatus.PAUSED:
                site.cli("runs", "resume", str(run.id))
        return not active

    until(ended, "the end of every run", PATIENCE)


def audit(site: Site) -> None:
    """Assert that the chain of the audit is sound."""
    code, out, err = site.cli("audit", "--verify", "--json")
    assert code == 0, (out, err)
    assert json.loads(out)
