"""Notices of changed configuration, as an application with many open files hears them."""

from __future__ import annotations

import contextlib
import os
import resource

from hal9mig.client import subscription
from hal9mig.stores import connection
from tests.support import servers


def test_notices_are_heard_beyond_the_first_files_of_a_process(stores: servers.Stores) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        for _ in range(1100):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        urls = (stores.flat_url, stores.hier_url)
        (flat, hier) = stack.enter_context(subscription.listening(urls, "words", name="test", timeout=5))
        assert subscription.heard([flat, hier], 0.0) == []
        _notify(stores.hier_url, "one")
        assert flat.fileno() > 1024
        assert subscription.heard([flat, hier], 5.0) == [(hier, "one")]


def test_a_notice_that_came_with_an_answer_is_heard_too(stores: servers.Stores) -> None:
    with subscription.listening([stores.flat_url], "words", name="test", timeout=5) as (opened,):
        _notify(stores.flat_url, "one")
        with opened.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert opened.notifies
        assert subscription.heard([opened], 5.0) == [(opened, "one")]
        assert subscription.heard([opened], 0.0) == []


def _notify(url: str, word: str) -> None:
    with connection.connected(url, application_name="test") as opened, opened.cursor() as cursor:
        cursor.execute("SELECT pg_notify('words', %s)", (word,))
