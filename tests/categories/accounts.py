"""A category of somebody else's: pgbench's accounts, moved under their branches.

Nothing in the engine knows of it. It shows a key that is a number, a source without a version column,
a type with a length, and a shared table.
"""

from __future__ import annotations

from hal9mig.categories.declaration import Category, Column, FilterField, Pass, Role, Source, Target

#: The tables it is moved to.
TARGET_DDL = """
CREATE SCHEMA bank;
CREATE TABLE bank.branches (branch_id integer PRIMARY KEY);
CREATE TABLE bank.accounts (
    account_id integer PRIMARY KEY,
    branch_id  integer REFERENCES bank.branches,
    balance    integer,
    filler     character(84)
);
"""
#: The table it comes from, as ``pgbench -i`` creates it.
SOURCE_DDL = """
CREATE TABLE public.pgbench_accounts (aid integer PRIMARY KEY, bid integer, abalance integer, filler character(84));
"""

ACCOUNTS = Category(
    slug="accounts",
    title="Bank Accounts",
    source=Source(
        schema="public",
        table="pgbench_accounts",
        columns=(
            Column("aid", "integer"),
            Column("bid", "integer"),
            Column("abalance", "integer"),
            Column("filler", "character(84)"),
        ),
        key=("aid",),
    ),
    targets=(
        Target(
            schema="bank",
            table="branches",
            role=Role.SHARED,
            columns=(Pass("branch_id", "bid"),),
            key=("branch_id",),
        ),
        Target(
            schema="bank",
            table="accounts",
            role=Role.ROOT,
            columns=(
                Pass("account_id", "aid"),
                Pass("branch_id", "bid"),
                Pass("balance", "abalance"),
                Pass("filler", "filler"),
            ),
            key=("account_id",),
            owner=("account_id",),
        ),
    ),
    rebuild="""
SELECT a.account_id AS aid, a.branch_id AS bid, a.balance AS abalance, a.filler
  FROM bank.accounts AS a
 WHERE RANGE(a.account_id)
""",
    filters={"aid": FilterField("aid", "integer"), "bid": FilterField("bid", "integer")},
)
