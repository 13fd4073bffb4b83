"""Manifests for the unit tests of checkpoints."""

from __future__ import annotations

import datetime
from typing import Any

from hal9mig import model
from hal9mig.engine.checkpoint.manifest import CategoryDigest, Chunk, Manifest, Table

NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def chunk(number: int = 1, **changes: Any) -> Chunk:
    """Return a chunk with a digest near the modulus."""
    values: dict[str, Any] = {
        "file": f"flat/flat.user_sessions/{number:06d}-1.copy.zst", "after": None, "upto": None, "rows": 2,
        "digest": (1 << 64) - 1, "sha256": "0" * 64, "raw_bytes": 100, "bytes": 60, "frames": ((0, 60, 2, 7),),
    }  # fmt: skip
    return Chunk(**{**values, **changes})


def table(**changes: Any) -> Table:
    """Return a table of two chunks."""
    values: dict[str, Any] = {
        "store": model.StoreName.FLAT, "category": "user-sessions", "schema": "flat", "table": "user_sessions",
        "columns": (("session_id", "uuid"), ("data", "jsonb")), "key": ("session_id",), "owner": ("session_id",),
        "role": "source", "chunks": (chunk(1, upto=("k",)), chunk(2, after=("k",))),
    }  # fmt: skip
    return Table(**{**values, **changes})


def manifest(name: str = "one", *, hours: float = 0, **changes: Any) -> Manifest:
    """Return a verified full checkpoint of one category, taken so many hours after noon."""
    at = NOON + datetime.timedelta(hours=hours)
    values: dict[str, Any] = {
        "name": name, "description": "", "kind": "full", "label": "", "scope": ("user-sessions",), "whole": False,
        "taken_at": at, "finished_at": at + datetime.timedelta(minutes=1), "by": "somebody", "program": "1.0",
        "verified": True, "mode": "dual-write", "epoch": 3, "positions": {"covers": {"user-sessions": [["a", None]]}},
        "schemas": {"flat": "0001"}, "tables": (table(),),
        "digests": {"user-sessions": {"flat": CategoryDigest(records=4, digest=5)}},
    }  # fmt: skip
    return Manifest(**{**values, **changes})


#: A checkpoint of neuron-states, as the command line tells of it: 2,000 rows in one chunk.
FILE = "flat/flat.neuron_states/000001-1.copy.zst"
BEFORE = manifest(
    "before", scope=("neuron-states",), taken_at=datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    mode="flat-only", epoch=1, positions={}, schemas={},
    digests={"neuron-states": {"flat": CategoryDigest(records=2000, digest=10)}},
    tables=(
        table(
            category="neuron-states", table="neuron_states", columns=(("neuron_id", "uuid"),), key=("neuron_id",),
            owner=("neuron_id",),
            chunks=(chunk(file=FILE, rows=2000, raw_bytes=2_000_000, bytes=500_000, frames=((0, 500_000, 2000, 1),)),),
        ),
    ),
)  # fmt: skip
