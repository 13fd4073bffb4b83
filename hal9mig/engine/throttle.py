"""The cluster's one budget, counted on Redis by GCRA with the server's clock.

Tokens are taken by the dispatcher before it publishes a batch, so that a limited batch holds no
worker slot and no place in a queue. GCRA: the generic cell rate algorithm of ITU-T I.371, as
implemented by throttled-py.
"""

from __future__ import annotations

import datetime
import time

import redis
import throttled
from redis import backoff, retry
from throttled import exceptions as throttled_exceptions

from hal9mig import errors, units

#: How late the dispatcher may come without losing budget, in seconds of budget. Also the most that
#: a start can be ahead of the rate.
SLACK = 0.25
#: Seconds for which nothing is asked after Redis did not answer: whoever asks holds up the others.
BLIND = 1.0
# One more try: the first one after Redis was restarted finds the old connection closed.
_OPTIONS = {
    "SOCKET_TIMEOUT": 2,
    "SOCKET_CONNECT_TIMEOUT": 2,
    "CONNECTION_POOL_KWARGS": {"retry": retry.Retry(backoff.NoBackoff(), 1)},
}


class Throttle:
    """Grants costs against a rate that may change between calls."""

    def __init__(self, redis_url: str, prefix: str):
        url = redis_url.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
        self._store = throttled.RedisStore(server=url, options=_OPTIONS)
        self._key = f"{prefix}budget"
        self._blind_until = 0.0

    def take(self, account: str, rate: units.Rate, cost: int) -> float:
        """Take ``cost`` units from an account; return 0.0 when granted, else the seconds after which to ask again.

        Debt stays within its account. A cost above one period's budget is granted too: it then keeps later ones
        waiting longer.

        Raises:
            errors.QueueUnreachable: Redis does not answer, so nothing may be granted.
        """
        if time.monotonic() < self._blind_until:
            raise errors.QueueUnreachable("The budget cannot be read, so nothing is granted.")
        # A cost larger than the capacity would never be granted, so the capacity follows the cost.
        capacity = max(1, cost) + max(1, round(rate.per_second * SLACK))
        quota = throttled.per_duration(datetime.timedelta(seconds=rate.per), rate.amount, burst=capacity)
        limiter = throttled.Throttled(using="gcra", quota=quota, store=self._store)
        try:
            # An account for each rate too: what was taken at another rate must not be paid off at this one.
            result = limiter.limit(f"{self._key}:{account}:{rate}", cost=max(1, cost))
        except (redis.RedisError, throttled_exceptions.BaseThrottledError, OSError) as error:
            self._blind_until = time.monotonic() + BLIND
            raise errors.QueueUnreachable(f"The budget cannot be read, so nothing is granted: {error}") from error
        return max(0.01, result.state.retry_after) if result.limited else 0.0
