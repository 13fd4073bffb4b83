"""What an application uses to read and write state while it is being migrated.

One client serves a whole process: it is safe to share between threads, and after a fork it opens
connections of its own. See docs/client.md.

    from hal9mig import client

    state = client.connect()
    state.put("configuration", {"key": "mission.name", "value": "Discovery One", ...})
    record = state.get("configuration", "mission.name")
"""

from hal9mig.client.client import Client, Counters, connect
from hal9mig.client.subscription import Subscription
from hal9mig.client.transaction import Transaction, Write
from hal9mig.client.values import Json

__all__ = ["Client", "Counters", "Json", "Subscription", "Transaction", "Write", "connect"]
