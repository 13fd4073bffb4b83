"""``hal9-migrate config export``: the application's configuration as a file."""

from __future__ import annotations

import pathlib

import click

from hal9mig import errors, model
from hal9mig.cli import options, report_file
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Write the application's configuration into a JSON file: every key with its value, by whom and when it was
set, and its version. It is read from the store that rules, or from the one that --system names.

Values whose key, or whose member's name, says that they are secret are masked unless --include-secrets is given. The
file can be read by its owner only.

\b
Examples:
  hal9-migrate config export --all --output config-backup.json
  hal9-migrate config export --key mission --system hierarchical --output mission.json
"""


@click.command(help=_HELP)
@click.option("--all", "everything", is_flag=True, help="Every key.")
@click.option("--key", "prefix", metavar="KEY", help="This key and those below it.")
@click.option(
    "--system",
    type=options.STORE,
    help="The store.  [default: the one that rules]",
)
@click.option("--include-secrets", is_flag=True, help="Do not mask secrets.")
@click.option("--output", required=True, type=options.PATH, metavar="FILE", help="The file.")
@options.output
@pass_call
def export(
    call: Invocation,
    everything: bool,
    prefix: str | None,
    system: str | None,
    include_secrets: bool,
    output: pathlib.Path,
) -> None:
    from hal9mig.checks import configuration

    if everything == (prefix is not None):
        raise errors.UsageError("Say either --all or --key.", hint="hal9-migrate config export --all --output F")
    report_file.require_folder(output, undone="nothing was exported")
    call.system.require_ready()
    store = model.StoreName(system) if system else configuration.ruling(call.system)
    keys = configuration.export(call.system, store, prefix=prefix or "", secrets=include_secrets)
    if prefix and not keys:
        raise errors.NotFound(f"The {store} store has no configuration key {prefix!r}.", hint="--all")
    document = {"schema": 1, "kind": "configuration", "system": str(store), "count": len(keys), "keys": keys}
    report_file.write(output, document, private=True)
    if not call.json:
        call.console.line(f"{output}: {counted(len(keys), 'key')} of the {store} store")
        if not keys:
            call.console.say("the store holds no configuration")
        if not include_secrets:
            call.console.say("secrets are masked; --include-secrets writes them")
    call.conclude(
        {
            "output": str(output),
            "system": str(store),
            "count": len(keys),
            "masked": not include_secrets,
            "next_steps": ["hal9-migrate state migrate --category configuration --atomic --verify-each"],
        }
    )
