"""Every target: the function that an input is given to, and inputs to begin from."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import click

from hal9mig.categories import wire
from tests.fuzz import of_fields, of_files, of_words
from tests.unit import commandline, manifests

_ROOT = pathlib.Path(__file__).parents[2]
#: A document in which Python's own reader does not find its way.
_DEEP = b"[" * 5000 + b"]" * 5000
#: Inputs that once brought out something else than one of our errors, in a folder for each target.
FOUND = pathlib.Path(__file__).parent / "found"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A target.

    Attributes:
        run: raises where an input brings out anything but one of our errors or a right result.
        seeds: returns inputs to begin from.
        words: pieces that an input is made of, for the fuzzer to put in.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]] = tuple
    words: Sequence[bytes] = ()


def _settings() -> Sequence[bytes]:
    return [
        (_ROOT / "config/hal9-migrate.toml").read_bytes(),
        b'[lease]\nduration = "30s"\n[categories]\nfiles = ["a"]',
    ]


def _command_lines() -> Sequence[bytes]:
    found = []
    for path, command in commandline.commands().items():
        words = path.split()
        for one in command.params:
            if isinstance(one, click.Argument):
                words.append("1")
            elif one.name not in ("help", "json", "debug", "watch", "live", "follow"):
                choices = one.type.choices if isinstance(one.type, click.Choice) else ["1"]
                words += [one.opts[0]] if getattr(one, "is_flag", False) else [one.opts[0], str(next(iter(choices)))]
        found.append("\n".join(words).encode())
        found.append(path.replace(" ", "\n").encode())
    return found


def _quantities() -> Sequence[bytes]:
    return [
        b"500ms",
        b"24h",
        b"1.5d",
        b"20MB",
        b"64KiB",
        b"1,000",
        b"10%",
        b"100/s",
        b"2batches/m",
        b"off",
        b"sample:0.1",
    ]


def _records() -> Sequence[bytes]:
    return [bytes([place]) + bytes(range(4, 255)) * 2 for place in range(5)]


TARGETS = (
    Target(name="command-line", run=of_words.command_line, seeds=_command_lines, words=[b"--json", b"--category"]),
    Target(name="settings", run=of_words.settings_file, seeds=_settings, words=[b"dashboard.hosts", b"webhook_url"]),
    Target(name="stack-file", run=of_words.stack_file, seeds=lambda: [b'{"settings": {"stack.workers": 2}}', _DEEP]),
    Target(name="quantities", run=of_words.quantities, seeds=_quantities, words=[b"records", b"batches", b"sample:"]),
    Target(
        name="filters", run=of_words.filter_,
        seeds=lambda: [b"active=true, version>3", b"type in a|b", b"updated_at<'2026-01-01, 12:00'"],
        words=[b"active", b"version", b"type", b"layer", b" in ", b"!="],
    ),
    Target(name="names", run=of_words.names, seeds=lambda: [b"flat\nuser_sessions", b'A b\nc"d', b"%\n%"]),
    Target(name="browser", run=of_words.browser, seeds=lambda: [b"localhost:90\nhttp://localhost:90", b"[::1]\nnull"]),
    Target(name="shown", run=of_words.shown, seeds=lambda: [b"a\nb", b"password='x\n'"], words=[b"token=", b"://"]),
    Target(
        name="manifest", run=of_files.manifest,
        seeds=lambda: [manifests.manifest().to_text().encode(), manifests.BEFORE.to_text().encode(), _DEEP],
    ),
    Target(name="sealed-manifest", run=of_files.sealed_manifest, seeds=_records),
    Target(name="chunk", run=of_files.chunk_file, seeds=lambda: [of_files.written_chunk()[0]]),
    Target(name="frame", run=of_files.frame, seeds=lambda: [wire.document([b"\0\x01\0\0\0\x01a"])]),
    Target(name="folder-manifest", run=of_files.folder_manifest, seeds=lambda: [b'{"format": 1, "sha256": ""}', _DEEP]),
    Target(name="sealed-folder", run=of_files.sealed_folder, seeds=_records),
    Target(name="learning-file", run=of_files.learning_file, seeds=lambda: [of_files.written_folder()[1]]),
    Target(
        name="traffic-file", run=of_files.traffic_file,
        seeds=lambda: [
            b'{"run": "a", "n": 1, "category": "c", "key": ["k"], "op": "put", "state": "done", "hash": null, '
            b'"version": 1, "hot": false, "at": "x"}\n{"run"\n',
            _DEEP,
        ],
    ),
    Target(name="category-file", run=of_files.category_file, seeds=lambda: [b"# coding: latin-1\nx = 1", b"((("]),
    Target(name="declaration", run=of_files.declaration, seeds=_records),
    Target(name="tuples", run=of_fields.tuples, seeds=lambda: [b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"]),
    Target(name="values", run=of_fields.values, seeds=_records),
    Target(name="numerics", run=of_fields.numerics, seeds=_records),
    Target(name="times", run=of_fields.times, seeds=lambda: [bytes(8), b"\0\x02" + bytes(6)]),
    Target(name="documents", run=of_fields.documents, seeds=lambda: [b'{"a": [1.50, 1e400]}', b"1" * 5000, _DEEP]),
    Target(
        name="audit-chain", run=of_fields.audit_chain,
        seeds=lambda: [b'{"prev": "", "hash": "x", "a": 1}\n[]', b'{"hash": "x", "a": ' + b"1" * 5000 + b"}", _DEEP],
    ),
    Target(name="records", run=of_fields.records, seeds=_records),
)  # fmt: skip
BY_NAME = {one.name: one for one in TARGETS}
