"""Categories with names and types as an application may have them: quoted, reserved, as long as can be, and domains."""

from __future__ import annotations

from hal9mig.categories.declaration import Category, Column, Computed, FilterField, Pass, Role, Source, Target

#: Two tables whose names differ in the last of 63 bytes only.
LONG = "a" * 62
#: A schema and a table of the words that SQL keeps for itself.
RESERVED = "order"


def _double(value: int) -> int:
    return 2 * value


DOMAINS = Category(
    slug="domains",
    title="Domains",
    source=Source(
        schema="public",
        table="domains",
        columns=(Column("id", "bigid"), Column("pos", "posint"), Column("rate", "double precision"),
                 Column("seen", "moment")),
        key=("id",),
    ),
    targets=(
        Target(
            schema="bank",
            table="domains",
            role=Role.ROOT,
            columns=(Pass("id", "id"), Pass("pos", "pos"), Pass("rate", "rate"), Pass("seen", "seen"),
                     Computed("twice", "integer", _double, ("pos",))),
            key=("id",),
            owner=("id",),
        ),
    ),
    rebuild="SELECT a.id, a.pos, a.rate, a.seen FROM bank.domains a WHERE RANGE(a.id)",
    filters={"pos": FilterField("pos", "posint")},
)  # fmt: skip
ORDERS = Category(
    slug="orders",
    title="Orders",
    source=Source(
        schema="public",
        table="Order Items",
        columns=(
            Column("Id", "integer"),
            Column("select", "text"),
            Column("a-b, (c)", "text"),
            Column("50%", "bigint"),
        ),
        key=("Id",),
        version="50%",
    ),
    targets=(
        Target(
            schema=RESERVED,
            table="select",
            role=Role.SHARED,
            columns=(Pass("Select", "select"),),
            key=("Select",),
        ),
        Target(
            schema=RESERVED,
            table="Order Items",
            role=Role.ROOT,
            columns=(Pass("I,d", "Id"), Pass("select", "select"), Pass('a"b', "a-b, (c)"), Pass("50%", "50%")),
            key=("I,d",),
            owner=("I,d",),
            version="50%",
        ),
        Target(
            schema=RESERVED,
            table="user",
            role=Role.PART,
            columns=(Pass("Id", "Id"), Pass("user", "select")),
            key=("Id",),
            owner=("Id",),
        ),
    ),
    rebuild=(
        'SELECT o."I,d" AS "Id", u."user" AS "select", o."a""b" AS "a-b, (c)", o."50%%" '
        'FROM "order"."Order Items" o JOIN "order"."user" u ON u."Id" = o."I,d" WHERE RANGE(o."I,d")'
    ),
    filters={"select": FilterField("select", "text")},
)


def _long(last: str) -> Category:
    table, key = LONG + last, "k" * 63
    return Category(
        slug=f"long-{last}",
        title=f"Long {last}",
        source=Source(
            schema="public", table=table, columns=(Column(key, "numeric"), Column(f"value_{last}", "text")), key=(key,)
        ),
        targets=(
            Target(
                schema="s" * 63,
                table=table,
                role=Role.ROOT,
                columns=(Pass(key, key), Pass(f"value_{last}", f"value_{last}")),
                key=(key,),
                owner=(key,),
            ),
        ),
        rebuild=f"SELECT a.* FROM {'s' * 63}.{table} a WHERE RANGE(a.{key})",
    )


LONG_B, LONG_C = _long("b"), _long("c")
SOURCE_DDL = f"""
CREATE DOMAIN bigid AS bigint CHECK (value > 0);
CREATE DOMAIN small AS int CHECK (value < 1000);
CREATE DOMAIN posint AS small CHECK (value > 0);
CREATE DOMAIN exact AS double precision;
CREATE DOMAIN moment AS timestamptz;
CREATE TABLE domains (id bigid PRIMARY KEY, pos posint, rate exact, seen moment);
CREATE TABLE "Order Items" ("Id" int PRIMARY KEY, "select" text, "a-b, (c)" text, "50%" bigint);
CREATE TABLE {LONG}b ({"k" * 63} numeric PRIMARY KEY, value_b text);
CREATE TABLE {LONG}c ({"k" * 63} numeric PRIMARY KEY, value_c text);
"""
TARGET_DDL = f"""
CREATE SCHEMA bank;
CREATE SCHEMA "order";
CREATE SCHEMA {"s" * 63};
CREATE TABLE bank.domains (id bigint PRIMARY KEY, pos int, rate double precision, seen timestamptz, twice int);
CREATE TABLE "order"."select" ("Select" text PRIMARY KEY);
CREATE TABLE "order"."Order Items" ("I,d" int PRIMARY KEY, "select" text REFERENCES "order"."select", "a""b" text,
                                    "50%" bigint);
CREATE TABLE "order"."user" ("Id" int PRIMARY KEY REFERENCES "order"."Order Items" ON DELETE CASCADE, "user" text);
CREATE TABLE {"s" * 63}.{LONG}b ({"k" * 63} numeric PRIMARY KEY, value_b text);
CREATE TABLE {"s" * 63}.{LONG}c ({"k" * 63} numeric PRIMARY KEY, value_c text);
"""
