"""Whether two servers hash alike: a row with every type, and with the values that are hard to hash."""

from __future__ import annotations

import psycopg2

from hal9mig import errors
from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category, Column, Pass, Role, Source, Target
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

_WAY_OUT = (
    "compare servers of PostgreSQL 16 or newer, of one architecture, with databases in UTF8; a logical replica of "
    "the flat store on such a server will do"
)
_FLOATS = "'NaN'", "'-Infinity'", "'-0'", "'0.1'"
_VALUES: tuple[tuple[str, str], ...] = (
    ("bigint", "-9223372036854775808"),
    ("integer", "-1"),
    ("smallint", "32767"),
    ("boolean", "true"),
    ("uuid", "'6b9d6c70-3f1c-4b60-9b3e-2f8f0a5d4c11'"),
    ("text", r"U&'na\00efve \4f60\597d'"),
    ("character varying(40)", "'a  '"),
    ("character(8)", "'ab'"),
    ("bytea", r"'\x00ff10'"),
    *(("real", value) for value in _FLOATS),
    *(("double precision", value) for value in _FLOATS),
    ("numeric", "'1.00'"),
    ("numeric", "'NaN'"),
    ("numeric", "'-12345678901234567890.5'"),
    ("date", "'infinity'"),
    ("timestamptz", "'-infinity'"),
    ("timestamptz", "'2026-01-02 03:04:05.678901+00'"),
    ("timestamp", "'0044-03-15 BC'"),
    ("time", "'23:59:59.999999'"),
    ("timetz", "'04:05:06+02'"),
    ("interval", "'1 mon -2 days 03:04:05.6'"),
    ("inet", "'2001:db8::1/64'"),
    ("cidr", "'10.0.0.0/8'"),
    ("macaddr", "'08:00:2b:01:02:03'"),
    ("jsonb", r"""U&'{"b": [1, 2.50, null, "\4f60"], "a": {"n": 1e400}}'"""),
    ("json", "'{\"b\" : 1}'"),
    ("real[]", "'{NaN,-0,NULL}'"),
    ("text[]", "'{a,\"b c\",NULL}'"),
    ("bigint[]", "'{{1,2},{3,4}}'"),
    ("xid8", "'7'"),
    ("text", "NULL"),
)


def require_alike(flat: Connection, hier: Connection) -> None:
    """Check that both servers give one record one hash; a digest would mean nothing otherwise.

    Leaves both connections outside a transaction if they were.

    Raises:
        errors.ServersIncomparable: they do not; the message names the types.
    """
    (flat_about, flat_hashes), (hier_about, hier_hashes) = _hashes(flat), _hashes(hier)
    names = [*(column.type for column in _PROBE.source.columns), "whole records"]
    compared = zip(names, flat_hashes, hier_hashes, strict=True)
    other = sorted({name for name, one, another in compared if one != another})
    if other:
        raise errors.ServersIncomparable(
            f"The two servers do not hash alike ({', '.join(other)}), so their digests cannot be compared: "
            f"{flat_about} and {hier_about}.",
            hint=_WAY_OUT,
        )


def _hashes(connection: Connection) -> tuple[str, list[int]]:
    idle = connection.info.transaction_status == 0
    source = _PROBE.source
    values = ", ".join(
        f"({value})::{kind} AS {identifiers.quoted(column.name)}" for column, (kind, value) in _columns()
    )
    hashes = [projection.column_hash(column, "s") for column in source.columns]
    hashes.append(projection.record_hash(_PROBE, "s"))
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT version() || ', encoding ' || current_setting('server_encoding'), {', '.join(hashes)} "
                f"FROM (SELECT {values}) s"
            )
            row = cursor.fetchone()
    except (psycopg2.DataError, psycopg2.ProgrammingError, psycopg2.NotSupportedError) as error:
        # A server without one of the functions, or an encoding without one of the characters.
        raise errors.ServersIncomparable(
            f"A server cannot hash a probe row: {' '.join(str(error).split())}", hint=_WAY_OUT
        ) from error
    finally:
        if idle:
            connection.rollback()
    if row is None:
        raise errors.HAL9Error("The probe gave no row.")
    return str(row[0]), list(row[1:])


def _columns() -> list[tuple[Column, tuple[str, str]]]:
    return [(Column(f"c{at}", kind), (kind, value)) for at, (kind, value) in enumerate(_VALUES)]


_PROBE = Category(
    slug="probe",
    title="Probe",
    source=Source(schema="probe", table="probe", columns=tuple(column for column, _ in _columns()), key=("c0",)),
    targets=(
        Target(schema="probe", table="probe", role=Role.ROOT, columns=(Pass("c0", "c0"),), key=("c0",), owner=("c0",)),
    ),
    rebuild="SELECT WHERE RANGE(c0)",
)
