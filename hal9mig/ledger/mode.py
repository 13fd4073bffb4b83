"""The write mode as the ledger knows it: where it is, where a switch is going, and who said so."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig.ledger import database


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModeLine:
    """The ledger's line on the mode; ``target`` and ``step`` are set while a switch is under way."""

    mode: str
    epoch: int
    target: str | None
    step: str | None
    actor: str
    since: datetime.datetime
    attested: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a switch over was based on."""

    id: int
    at: datetime.datetime
    actor: str
    document: Mapping[str, Any]


def read(session: database.Session) -> ModeLine:
    """Return the line."""
    return ModeLine(**database.run(session, "live", "mode").one()._asdict())


def write(
    session: database.Session,
    *,
    mode: str,
    epoch: int,
    actor: str,
    target: str | None = None,
    step: str | None = None,
    attested: Mapping[str, Any] | None = None,
) -> None:
    """Write the line."""
    database.run(
        session, "live", "set_mode", mode=mode, epoch=epoch, actor=actor, target=target, step=step, attested=attested
    )


def lock_switch(session: database.Session) -> None:
    """Be the only one who switches, until the transaction ends."""
    database.run(session, "live", "lock_switch")


def certify(session: database.Session, document: Mapping[str, Any], *, actor: str) -> int:
    """Keep a certificate and return its number."""
    return int(database.run(session, "live", "certify", actor=actor, document=document).scalar_one())


def certificates(session: database.Session, *, limit: int = 10) -> Sequence[Certificate]:
    """Return the newest certificates first."""
    return [Certificate(**row._asdict()) for row in database.run(session, "live", "certificates", limit=limit)]
