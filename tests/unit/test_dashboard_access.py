"""Who is let in at the dashboard: by address, by name, by token."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from hal9mig import errors, settings
from hal9mig.dashboard import access
from hal9mig.dashboard.server import url

TOKEN = "sixteen letters!"


def decided(*, anyone_may_read: bool = False, **values: object) -> access.Access:
    resolved = dataclasses.replace(settings.load(environ={}, stack=False), **values)  # type: ignore[arg-type]
    return access.decide(resolved, anyone_may_read=anyone_may_read)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_everybody_reads_and_without_a_token_nobody_acts(address: str) -> None:
    found = decided(dashboard_address=address)
    assert (found.token, found.reading) == (None, True)
    assert found.knows(url(address, 5556).removeprefix("http://"))
    assert not found.fits("")
    assert decided(dashboard_address=address, dashboard_token=TOKEN).fits(TOKEN)


@pytest.mark.parametrize("values", [{"dashboard_address": "0.0.0.0"}, {"dashboard_hosts": ("ops.example",)}])
def test_where_others_reach_it_a_token_is_needed_and_reading_needs_it_too(values: dict[str, object]) -> None:
    with pytest.raises(errors.Refused) as refused:
        decided(**values)
    assert "--token-file" in str(refused.value.hint)
    assert "--anyone-may-read" in str(refused.value.hint)
    assert not decided(dashboard_token=TOKEN, **values).reading
    assert decided(anyone_may_read=True, **values).reading


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:5556", True), ("localhost", True), ("LOCALHOST:99", True), ("[::1]:5556", True),
        ("evil.example:5556", False), ("127.0.0.1.evil.example", False), ("", False), ("[::1", False),
    ],
)  # fmt: skip
def test_on_loopback_it_is_asked_by_loopbacks_names_only(host: str, known: bool) -> None:
    assert decided().knows(host) is known


def test_a_proxys_name_is_known_once_it_is_told_and_any_is_where_reading_needs_a_login() -> None:
    proxied = decided(dashboard_hosts=("Ops.example",), dashboard_token=TOKEN)
    assert proxied.knows("ops.example:443")
    assert proxied.knows("127.0.0.1:5556")
    assert not proxied.knows("evil.example")
    assert decided(dashboard_address="0.0.0.0", dashboard_token=TOKEN).knows("10.0.0.7:5556")


def test_a_token_comes_from_its_file_and_has_to_be_long(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n", encoding="utf-8")
    found = decided(dashboard_token_file=path, dashboard_token="another one, which is not meant")
    assert found.fits(TOKEN)
    for short in ("", "short"):
        path.write_text(short, encoding="utf-8")
        with pytest.raises(errors.InvalidSettings):
            decided(dashboard_token_file=path)
    with pytest.raises(errors.InvalidSettings, match="No such file"):
        decided(dashboard_token_file=tmp_path / "none")


def test_another_token_ends_all_logins() -> None:
    one, other = decided(dashboard_token=TOKEN), decided(dashboard_token=TOKEN + "!")
    assert one.cookie_secret == decided(dashboard_token=TOKEN).cookie_secret
    assert one.cookie_secret != other.cookie_secret
    assert not other.fits(TOKEN)


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://127.0.0.1:5556", "127.0.0.1:5556", True),
        ("https://OPS.example", "ops.example", True),
        ("http://127.0.0.1:8000", "127.0.0.1:5556", False),
        ("null", "127.0.0.1:5556", False),
        ("http://[", "127.0.0.1:5556", False),
    ],
)
def test_a_form_comes_from_the_same_origin(origin: str, host: str, same: bool) -> None:
    assert access.same_origin(origin, host) is same


def test_a_name_in_the_audit_is_one_short_line() -> None:
    assert access.spoken(" maria\n\x1b[31m\u202e ") == "maria \\x1b[31m\\u202e"
    assert len(access.spoken("x" * 500)) == access.MOST_OF_A_NAME


def test_an_address_as_a_browser_takes_it() -> None:
    assert [url("0.0.0.0", 1), url("::", 2), url("::1", 3), url("10.0.0.7", 4)] == [
        "http://127.0.0.1:1", "http://[::1]:2", "http://[::1]:3", "http://10.0.0.7:4",
    ]  # fmt: skip
