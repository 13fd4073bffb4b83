"""What is told to people: lines of the log, signatures, and what of an address may be shown."""

from __future__ import annotations

import hashlib
import hmac
import re

import pytest

from hal9mig import errors, settings
from hal9mig.engine import alarms, reconciliation_log
from hal9mig.ledger import tuning


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("a/b:c-1.5%", "a/b:c-1.5%"),
        ("two words", '"two words"'),
        ('say "x"', r'"say \"x\""'),
        ("a=b", '"a=b"'),
        ("two\nlines\t", r'"two\nlines\t"'),
        ("nä", "nä"),
        (0.125, "0.125"),
        (2.0, "2"),
        (0, "0"),
        (False, "False"),
        ("postgresql://u:secret@h/d", "postgresql://u:***@h/d"),
    ],
)  # fmt: skip
def test_a_value_in_the_log(value: object, shown: str) -> None:
    text = reconciliation_log.line("drift", {"key": value})
    assert re.fullmatch(r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z event=drift key=(?s:.*)\n", text)
    assert text.partition(" key=")[2] == f"{shown}\n"
    assert text.count("\n") == 1


def test_empty_fields_are_left_out() -> None:
    assert " key=" not in reconciliation_log.line("drift", {"key": "", "other": None})


def test_a_signature() -> None:
    expected = hmac.new(b"key", b"body", hashlib.sha256).hexdigest()
    assert alarms.signature("key", b"body") == f"sha256={expected}"


def test_of_a_webhooks_address_only_the_host_is_shown() -> None:
    address = "https://user:pw@hooks.example/services/T0/B0/token"
    assert alarms.host(address) == "hooks.example"
    by_key = {setting.key: setting for setting in settings.SETTINGS}
    assert settings.shown(by_key["alerts.webhook_url"], address) == "https://hooks.example/***"
    assert settings.shown(by_key["alerts.webhook_secret"], "s3cret") == "***"
    assert settings.shown(by_key["alerts.webhook_url"], None) == "(unset)"


def test_portions_and_switches() -> None:
    assert tuning.parse_portion("10%") == 0.1
    assert tuning.parse_switch("TRUE") is True
    for parse, text in ((tuning.parse_portion, "0"), (tuning.parse_portion, "2"), (tuning.parse_switch, "yes")):
        with pytest.raises(errors.InvalidUnit):
            parse(text)


def test_every_value_has_a_default_that_can_be_read() -> None:
    assert {knob.group for knob in tuning.KNOBS} == set(tuning.KnobGroup)
    for knob in tuning.KNOBS:
        knob.parse(knob.default)
