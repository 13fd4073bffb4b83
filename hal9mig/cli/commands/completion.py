"""``hal9-migrate completion``: scripts that let a shell complete commands, categories, runs and checkpoints."""

from __future__ import annotations

import click
from click import shell_completion

from hal9mig.cli import invocation, options
from hal9mig.cli.invocation import PROGRAM

_HELP = """Print the script that lets a shell complete this program's commands, categories, run numbers and checkpoints.

\b
Examples:
  source <(hal9-migrate completion bash)
  hal9-migrate completion zsh > ~/.zfunc/_hal9-migrate
  hal9-migrate completion fish > ~/.config/fish/completions/hal9-migrate.fish
"""
_VARIABLE = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@options.output
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    made = shell_completion.get_completion_class(shell)
    assert made is not None
    script = made(context.find_root().command, {}, PROGRAM, _VARIABLE)
    # `source()` of bash starts a bash to ask for its version; the script itself needs no asking.
    text = script.source_template % script.source_vars()
    call = invocation.current(context)
    if not call.json:
        call.console.line(text)
    call.conclude({"shell": shell, "script": text})
