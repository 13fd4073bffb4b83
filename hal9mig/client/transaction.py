"""Writes that go together: collected first, then made in one transaction of the store that rules.

The application's own code never runs while the transaction is open. So it cannot hold up a switch or
another writer, and the whole of it can be made again on the other side when a switch came in between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.categories.registry import Registry
from hal9mig.client import values


@dataclasses.dataclass(kw_only=True, eq=False)
class Write:
    """One write. What stands last is known once its transaction has committed.

    Attributes:
        category: what the record is.
        record: the parameters of the record's columns; None deletes it.
        key_parameters: those of its key.
        given: the version that the caller gave.
        expected: the version that the record has to be at; 0 where there must be none.
        key: the record's key as texts, in PostgreSQL's spelling.
        version: the version it has now; of a deletion the one that it had. None without a version column.
        existed: whether there was a record before.
    """

    category: Category
    record: Mapping[str, Any] | None
    key_parameters: tuple[Any, ...]
    given: int | None
    expected: int | None
    key: model.Key = ()
    version: int | None = None
    existed: bool = False


class Transaction:
    """Collects writes, which are made in this order."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.writes: list[Write] = []

    def put(self, category: str, record: Mapping[str, Any], *, expected_version: int | None = None) -> Write:
        """Insert a record, or replace the one of its key; see ``Client.put``.

        Raises:
            errors.InvalidRecord: it has another form than its category declares.
            errors.UnknownCategory: there is no such category.
        """
        found = self._registry.get(category)
        parameters = values.record_parameters(found, record)
        given = record.get(found.source.version) if found.source.version else None
        if given is not None and (not isinstance(given, int) or isinstance(given, bool)):
            raise errors.InvalidRecord(
                f"The version of a record of {found.slug} is a whole number, not {given!r:.100}."
            )
        key = values.key_parameters(found, [record[name] for name in found.key])
        return self._add(found, parameters, key, given, expected_version)

    def delete(self, category: str, key: Any, *, expected_version: int | None = None) -> Write:
        """Delete the record of a key, if there is one.

        Raises:
            errors.InvalidRecord: it is no key of this category.
            errors.UnknownCategory: there is no such category.
        """
        found = self._registry.get(category)
        return self._add(found, None, values.key_parameters(found, key), None, expected_version)

    def _add(
        self,
        category: Category,
        record: Mapping[str, Any] | None,
        key: tuple[Any, ...],
        given: int | None,
        expected: int | None,
    ) -> Write:
        if expected is not None and category.source.version is None:
            raise errors.InvalidRecord(f"{category.slug} has no version column, so no version can be expected.")
        write = Write(category=category, record=record, key_parameters=key, given=given, expected=expected)
        self.writes.append(write)
        return write


def conflict(write: Write, found: int | None) -> errors.Conflict:
    """Return the error of a record that is at another version than expected."""
    wanted = f"expected at version {write.expected}" if write.expected else "expected to be none"
    there = "it is not there" if found is None else f"it is at version {found}"
    return errors.Conflict(
        f"{write.category.slug} {'/'.join(write.key)} was {wanted}, but {there}.",
        category=write.category.slug,
        key="/".join(write.key),
        version=found,
    )
