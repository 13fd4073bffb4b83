"""Whom a refusal names as the one that holds a lock."""

from __future__ import annotations

import contextlib

from hal9mig.stores import connection, lock_holders
from tests.support import servers


def test_who_writes_a_table_of_another_database_is_not_named(databases: servers.Databases) -> None:
    """Databases that were copied from one template give a table one number."""
    asking, other = databases.open(), databases.open()
    with (
        contextlib.closing(connection.connect(asking.flat_url, application_name="asking")) as asked,
        connection.connected(asking.flat_url, application_name="writing here") as here,
        connection.connected(other.flat_url, application_name="writing elsewhere") as elsewhere,
    ):
        numbers = []
        for opened in (here, elsewhere):
            with opened.cursor() as cursor:
                cursor.execute("LOCK flat.configuration IN SHARE MODE")
                cursor.execute("SELECT 'flat.configuration'::regclass::oid")
                numbers.append(cursor.fetchone())
        assert numbers[0] == numbers[1]
        assert [holder.name for holder in lock_holders.of_writing(asked, ["flat.configuration"])] == ["writing here"]
    databases.close(asking)
    databases.close(other)
