"""A store's connections as the client speaks on them."""

from __future__ import annotations

from hal9mig.client import values
from hal9mig.stores.pool import Pool

#: Seconds; an application's operation is not to wait for another word from its server each time.
_TRUST = 1.0


def pool(name: str, url: str, *, application_name: str, connect_timeout: float, idle: int) -> Pool:
    """Return connections in autocommit that give and take values as the client does.

    Args:
        name: what the store is called in errors.
        idle: connections that are kept open when nobody uses them.
    """
    return Pool(
        url, name=name, application_name=application_name, connect_timeout=connect_timeout, idle=idle,
        autocommit=True, prepare=values.prepare, trust=_TRUST,
    )  # fmt: skip
