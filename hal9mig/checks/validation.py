"""Which checks each category has, under the three heads, and running them."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from hal9mig import client
from hal9mig.categories import configuration, learning, neurons
from hal9mig.categories.declaration import Category
from hal9mig.checks import continuity, integrity, metadata, performance, sessions
from hal9mig.checks.continuity import Promise
from hal9mig.checks.subject import Subject
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import check_results, database
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict

COMMAND = "state validate"


class Head(enum.StrEnum):
    """What a check is about."""

    CONTINUITY = "continuity"
    INTEGRITY = "integrity"
    PERFORMANCE = "performance"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """A named check of one category."""

    name: str
    run: Callable[[Subject], CheckOutcome]

    @property
    def head(self) -> Head:
        """What it is about."""
        return Head(self.name.partition(":")[0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard to look; see ``Subject``."""

    sample: int = 200
    seed: int = 1
    bound: float = 3.0
    sla: float = 10.0


#: What a category's users count on; a category that somebody declares keeps every field of its records.
_PROMISES: Mapping[str, Promise] = {
    sessions.SLUG: sessions.PROMISE,
    neurons.CATEGORY.slug: Promise(
        nouns="units", fields=("weights", "biases", "learning_rate", "momentum", "activation", "layer")
    ),
    learning.CATEGORY.slug: Promise(nouns="patterns", fields=("neuron_id", "kind", "pattern")),
    configuration.CATEGORY.slug: Promise(nouns="configuration keys", fields=("value",)),
    metadata.SLUG: metadata.PROMISE,
}


def checks_of(category: Category) -> Sequence[Check]:
    """Return the checks of a category, in the order in which they are run."""
    promise = _PROMISES.get(category.slug, Promise())
    return (
        Check(name="continuity", run=functools.partial(continuity.check, promise=promise)),
        Check(name="integrity:constraints", run=integrity.check_constraints),
        Check(name="integrity:references", run=integrity.check_references),
        Check(name="integrity:digests", run=integrity.check_digests),
        *([Check(name="integrity:chain", run=metadata.check_chain)] if category.slug == metadata.SLUG else []),
        Check(name="performance:read", run=performance.check_reads),
    )


def validate(
    system: System,
    categories: Sequence[Category],
    heads: Collection[Head],
    *,
    effort: Effort,
    actor: str,
    only: Collection[tuple[str, str]] | None = None,
) -> Iterator[CheckOutcome]:
    """Run the checks of categories one after the other, and keep and give each outcome as it comes.

    Args:
        only: category and name of the checks to run, of those of the heads; None is all of them.

    Raises:
        errors.GateClosed: the write mode is being switched, or a restore is under way.
        errors.Unreachable: a store cannot be reached.
    """
    desk = Desk(system)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(client.connect(system.settings, application_name="hal9-migrate check"))
        stack.callback(desk.clear)
        for category in categories:
            subject = Subject(system=system, client=opened, desk=desk, category=category, **dataclasses.asdict(effort))
            chosen = [one for one in checks_of(category) if one.head in heads]
            chosen = [one for one in chosen if only is None or (category.slug, one.name) in only]
            with desk.trusted():
                lacking = integrity.declared(subject)
                for one in chosen:
                    found = _unfit(subject, one, lacking) if lacking else one.run(subject)
                    with system.ledger.begin() as session:
                        check_results.add(session, found, command=COMMAND, actor=actor)
                    yield found


def _unfit(subject: Subject, one: Check, lacking: Sequence[str]) -> CheckOutcome:
    """Return what a check comes to where the stores are not as declared: there is nothing to compare then."""
    constraints = one.name == "integrity:constraints"
    return subject.outcome(
        one.name,
        # A check must not pass for want of tables, and one of them has to say what is wrong.
        CheckVerdict.FAILED if constraints else CheckVerdict.SKIPPED,
        ("" if constraints else "the stores are not as the category declares them: ") + "; ".join(lacking),
        {},
        "hal9-migrate db check",
    )


def failures(session: database.Session, categories: Sequence[Category]) -> tuple[int, list[check_results.CheckResult]]:
    """Return how many checks there are results of, and the newest results that failed."""
    kept = check_results.newest(session, categories=[one.slug for one in categories])
    return len(kept), [one for one in kept if one.verdict is CheckVerdict.FAILED]
