"""What a comparison has counted: numbers that have to add up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from hal9mig import errors
from hal9mig.engine.compare.judge import Judgement, Verdict
from hal9mig.ledger.verify_results import DifferenceKind

#: Digests are sums modulo this.
MODULUS = 1 << 64


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What a range or a batch has been found to hold; it adds up.

    Every flat record is in exactly one of ``verified``, ``mismatches``, ``missing``, ``pending``,
    ``quarantined`` and ``moving``.

    Attributes:
        flat, hier: records there at the last look.
        pending: in the flat store only, and of no run so far.
        moving: changed while being compared, or not applied yet; counted as a flat record even where it is
            not one any more.
        flat_digest, hier_digest: sums of the hashes of all records but pending ones, modulo 2^64.
        unlisted: differences that are counted but not listed.
    """

    flat: int = 0
    hier: int = 0
    verified: int = 0
    mismatches: int = 0
    missing: int = 0
    extra: int = 0
    pending: int = 0
    quarantined: int = 0
    moving: int = 0
    unlisted: int = 0
    flat_digest: int = 0
    hier_digest: int = 0
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Add another's counts to these."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        self.flat_digest %= MODULUS
        self.hier_digest %= MODULUS

    def alike(self, hash: int) -> None:
        """Count a record that is the same in both stores."""
        self.flat += 1
        self.hier += 1
        self.verified += 1
        self.hashes(hash, [hash])

    def hashes(self, flat: int | None, hier: Iterable[int]) -> None:
        """Add a record's hashes to the digests."""
        self.flat_digest = (self.flat_digest + (flat or 0)) % MODULUS
        self.hier_digest = (self.hier_digest + sum(hier)) % MODULUS

    def orphan(self) -> None:
        """Count what is left of a record that neither store has."""
        self.hier += 1
        self.extra += 1

    def count(self, verdict: Verdict) -> DifferenceKind | None:
        """Count a record that differed at the first look by what the judge found; its kind if it differs."""
        flat, hier = verdict.flat, verdict.hier
        hashes = [row.hash for row in hier]
        if verdict.state is Judgement.AGREES:
            if flat is not None and (flat.chosen or hier[0].chosen):
                self.alike(flat.hash)
            return None
        if verdict.state is Judgement.LAGS:
            self.hier += len(hier)
            self.flat += 1
            self.moving += 1
            self.hashes(flat and flat.hash, hashes)
            return None
        if flat is None:
            if not hier:
                return None  # only parts without their root are left, which are counted beside the records
            self.hier += len(hier)
            self.extra += 1
            self.hashes(None, hashes)
            return DifferenceKind.EXTRA
        if not (flat.chosen or any(row.chosen for row in hier)):
            return None  # both have left the filter
        self.hier += len(hier)
        self.flat += 1
        if verdict.state is Judgement.PENDING:
            self.pending += 1
            return None
        self.hashes(flat.hash, hashes)
        if verdict.held:
            self.quarantined += 1
            return DifferenceKind.QUARANTINED
        if hier:
            self.mismatches += 1
            return DifferenceKind.MISMATCH
        self.missing += 1
        return DifferenceKind.MISSING

    def check(self) -> None:
        """Raise where the parts do not make the whole.

        Raises:
            errors.HAL9Error: records were counted that were not compared, or the other way round.
        """
        parts = self.verified + self.mismatches + self.missing + self.pending + self.quarantined + self.moving
        if parts != self.flat or self.hier < self.verified + self.extra:
            raise errors.HAL9Error(
                f"The comparison does not add up: {self.flat:,} flat records, {parts:,} compared; "
                f"{self.hier:,} hierarchical ones, {self.verified + self.extra:,} compared.",
                **dataclasses.asdict(self),
            )

    def document(self) -> dict[str, Any]:
        """Return it as JSON values; digests as hexadecimal texts, as they are wider than JSON's numbers."""
        return dataclasses.asdict(self) | {
            "seconds": round(self.seconds, 3),
            "flat_digest": hexadecimal(self.flat_digest),
            "hier_digest": hexadecimal(self.hier_digest),
        }

    @classmethod
    def from_document(cls, values: Mapping[str, Any]) -> Tally:
        """Read what ``document`` returned."""
        digests = {name: int(values[name], 16) for name in ("flat_digest", "hier_digest")}
        return cls(**{**values, **digests})


def hexadecimal(digest: int) -> str:
    """Return a digest as people and documents have it."""
    return f"{digest:016x}"
