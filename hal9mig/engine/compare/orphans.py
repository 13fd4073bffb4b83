"""Rows of parts whose record no root table holds: the rebuild query, which starts at the roots, cannot see them."""

from __future__ import annotations

from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category, Role, Target
from hal9mig.engine.compare.keystream import Query
from hal9mig.stores import projection


def query(category: Category, scope: projection.Scope) -> Query | None:
    """Return the query of their keys in bytewise order, as ``keystream.Decoder`` reads it; None without parts."""
    selects: list[str] = []
    values: projection.Params = []
    for part in category.targets:
        if part.role is Role.PART:
            where, params = scope.sql(category, identifiers.each(part.owner, "p"))
            values += params
            absent = []
            for root in category.roots:
                # The range stands here too: without it a merge would read the root's index from its beginning.
                within, params = scope.sql(category, identifiers.each(root.owner, "r"))
                absent.append(f"NOT EXISTS (SELECT FROM {root.qualified} r WHERE {_same(root, part)} AND {within})")
                values += params
            keys = projection.as_key(category, part.owner, "p")
            selects.append(f"SELECT {keys} FROM {part.qualified} p WHERE {where} AND {' AND '.join(absent)}")
    if not selects:
        return None
    names = identifiers.listed(category.key, "s")
    order = projection.key_order(category, "s", bytewise=True)
    return (
        f"SELECT {names}, {projection.key_texts(category)}, 0::bigint, false, false "
        f"FROM ({' UNION '.join(selects)}) s ORDER BY {order}",
        values,
    )


def _same(root: Target, part: Target) -> str:
    return identifiers.same("r", root.owner, "p", part.owner)
