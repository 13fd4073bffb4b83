"""The cluster's one budget, counted on Redis by GCRA with the server's clock.

Tokens are taken by the dispatcher before it publishes a batch, so that a limited batch holds no
worker slot and no place in a queue. GCRA: the generic cell rate algorithm of ITU-T I.371, as
implemented by throttled-py.
"""

from __future__ import annotations

import datetime

import redis
import throttled
from throttled import exceptions as throttled_exceptions

from hal9mig import errors, units

#: How late the dispatcher may come without losing budget, in seconds of budget. Also the most that
#: a start can be ahead of the rate.
SLACK = 0.25


class Throttle:
    """Grants costs against a rate that may change between calls."""

    def __init__(self, redis_url: str, prefix: str):
        url = redis_url.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
        self._store = throttled.RedisStore(server=url, options={"SOCKET_TIMEOUT": 5, "SOCKET_CONNECT_TIMEOUT": 5})
        self._key = f"{prefix}budget"

    def take(self, rate: units.Rate, cost: int) -> float:
        """Take ``cost`` units; return 0.0 when granted, else the seconds after which to ask again.

        A cost above one period's budget is granted too: it then keeps later ones waiting longer.

        Raises:
            errors.QueueUnreachable: Redis does not answer, so nothing may be granted.
        """
        # A cost larger than the capacity would never be granted, so the capacity follows the cost.
        capacity = max(1, cost) + max(1, round(rate.per_second * SLACK))
        quota = throttled.per_duration(datetime.timedelta(seconds=rate.per), rate.amount, burst=capacity)
        limiter = throttled.Throttled(using="gcra", quota=quota, store=self._store)
        try:
            result = limiter.limit(f"{self._key}:{rate.unit.value}", cost=max(1, cost))
        except (redis.RedisError, throttled_exceptions.BaseThrottledError, OSError) as error:
            raise errors.QueueUnreachable(f"The budget cannot be read, so nothing is granted: {error}") from error
        return max(0.01, result.state.retry_after) if result.limited else 0.0
