"""The category orders: shop.orders, with its lines in one column, becomes shop.orders and shop.order_lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hal9mig import errors
from hal9mig.categories.declaration import Category, Column, Element, Explode, FilterField, Pass, Role, Source, Target


def order_lines(lines: list[dict[str, Any]]) -> Iterator[tuple[int, str, int, int]]:
    """Yield place, sku, quantity and cents of each line."""
    for place, line in enumerate(lines, start=1):
        if line.keys() != {"sku", "quantity", "cents"}:
            # What has no place in the other store must not vanish: the record goes to quarantine.
            raise errors.RecordRejected(f"line {place} has {', '.join(line)}")
        yield place, line["sku"], line["quantity"], line["cents"]


CATEGORY = Category(
    slug="orders",
    title="Orders",
    source=Source(
        schema="shop",
        table="orders",
        columns=(
            Column("order_id", "bigint"),
            Column("customer", "text"),
            Column("placed_at", "timestamp with time zone"),
            Column("paid", "boolean"),
            Column("lines", "jsonb"),
            Column("version", "bigint"),
        ),
        key=("order_id",),
        version="version",
    ),
    targets=(
        Target(
            schema="shop",
            table="orders",
            role=Role.ROOT,
            columns=(
                Pass("order_id", "order_id"),
                Pass("customer", "customer"),
                Pass("placed_at", "placed_at"),
                Pass("paid", "paid"),
                Pass("version", "version"),
            ),
            key=("order_id",),
            owner=("order_id",),
            version="version",
        ),
        Target(
            schema="shop",
            table="order_lines",
            role=Role.PART,
            columns=(
                Pass("order_id", "order_id"),
                Element("place", "integer"),
                Element("sku", "text"),
                Element("quantity", "integer"),
                Element("cents", "bigint"),
            ),
            key=("order_id", "place"),
            owner=("order_id",),
            explode=Explode(order_lines, ("lines",)),
        ),
    ),
    rebuild="""
        SELECT o.order_id, o.customer, o.placed_at, o.paid, coalesce(l.lines, '[]') AS lines, o.version
          FROM shop.orders AS o
          LEFT JOIN (
               SELECT order_id, jsonb_agg(jsonb_build_object('sku', sku, 'quantity', quantity, 'cents', cents)
                                          ORDER BY place) AS lines
                 FROM shop.order_lines AS p WHERE RANGE(p.order_id) GROUP BY order_id) AS l USING (order_id)
         WHERE RANGE(o.order_id)
    """,
    filters={"paid": FilterField("paid", "boolean")},
)
