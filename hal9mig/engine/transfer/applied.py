"""What became of keys that were applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hal9mig import model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Applied:
    """What became of the keys; a record that was rejected is not in the target, and on the way there in quarantine."""

    written: Sequence[model.Key]
    deleted: Sequence[model.Key]
    rejected: Mapping[model.Key, str]
