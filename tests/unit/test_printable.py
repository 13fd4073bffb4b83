"""A record's content does not steer the terminal that it is shown on."""

from __future__ import annotations

import json
import math

import pytest

from hal9mig import safe_text
from hal9mig.cli.console import Console

WICKED = "\x1b]0;title\x07\x1b[31mred\x7f\x9b1m \u202eesrever\u2066"
SHOWN = r"\x1b]0;title\x07\x1b[31mred\x7f\x9b1m \u202eesrever\u2066"


def test_controls_are_escapes_and_all_else_stays() -> None:
    assert safe_text.printable(WICKED) == SHOWN
    assert safe_text.printable("Zoë 雪 ✅\tand\na line") == "Zoë 雪 ✅\tand\na line"
    assert safe_text.printable("\ud800") == r"\ud800"


@pytest.mark.parametrize("style", ["", "red"])
@pytest.mark.parametrize("color", ["never", "always"])
def test_wherever_a_command_prints(capsys: pytest.CaptureFixture[str], style: str, color: str) -> None:
    console = Console(color=color)
    console.line(WICKED, style=style)
    console.verdict(True, WICKED)
    console.table(["KEY", "VALUE"], [[WICKED, "a\x1b[2J\nb"]])
    console.say(WICKED)
    told = capsys.readouterr()
    assert "\x1b]" not in told.out + told.err
    assert "\x07" not in told.out + told.err
    assert SHOWN in told.out
    assert SHOWN in told.err


def test_json_carries_them_as_json_does(capsys: pytest.CaptureFixture[str]) -> None:
    Console().document({"key": WICKED})
    told = capsys.readouterr().out
    assert not any(sign in told for sign in "\x1b\x07\x7f\x9b\u202e\u2066")
    assert json.loads(told)["key"] == WICKED


def test_numbers_that_json_cannot_write_are_texts_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    Console().document({"worst": [math.inf, -math.inf], "of": {"a": math.nan, "b": 1.5}})
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (told["worst"], told["of"]) == (["Infinity", "-Infinity"], {"a": "NaN", "b": 1.5})
