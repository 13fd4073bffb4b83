"""``hal9-migrate neurons verify``: whether a layer is the same in both stores, and connected alike."""

from __future__ import annotations

import contextlib

import click

from hal9mig import errors, model
from hal9mig.cli import comparison, connections, options
from hal9mig.cli.invocation import Invocation, pass_call

_SLUG = "neuron-states"
_HELP = """Compare one layer's units and their connections in both stores; exit 3 when something differs.

The workers compare the units record by record, as `state verify` does; then every connection of theirs is compared,
with its place, type and weight. A connection to a layer that is not migrated yet is pending and no difference, so
that layers can be migrated and verified one after the other. In hierarchical-only the hierarchical store rules.

\b
Examples:
  hal9-migrate neurons verify --layer substrate
  hal9-migrate neurons verify --layer cognitive --json
"""


@click.command(help=_HELP)
@click.option("--layer", required=True, metavar="LAYER", help="substrate, protocol, cognitive, ..., or your own.")
@options.timeout
@options.output
@pass_call
def verify(call: Invocation, layer: str, timeout: float | None) -> None:
    from hal9mig.checks import connection_findings
    from hal9mig.engine.compare import verify_report

    call.system.require_ready()
    _require_layer(call, layer)
    (compared,) = comparison.compare(
        call, call.categories([_SLUG]), filter=_filter(layer), deep=True,
        timeout=timeout,
    )  # fmt: skip
    with connections.stores(call) as both:
        connected = connections.look(call, both, command="neurons verify", layer=layer, deep=True)
    if not call.json:
        call.console.verdict(compared.consistent, f"{layer}: {verify_report.sentence(compared)}")
        connections.show(call, connected)
    report = verify_report.report([compared])
    document: dict[str, object] = {
        "layer": layer,
        "records": report,
        "connections": connections.document(connected),
        "next_steps": list(dict.fromkeys([*report["next_steps"], *connection_findings.next_steps(connected)])),
    }
    call.conclude(document, comparison.problem([compared]) or connections.problem(connected))


def _filter(layer: str) -> str:
    quote = '"' if "'" in layer else "'"
    return f"layer={quote}{layer}{quote}"


def _require_layer(call: Invocation, layer: str) -> None:
    """Raise where no unit of either store is of this layer and HAL9 does not know it either: it is mistyped."""
    from hal9mig.categories import neurons

    if layer in neurons.LAYERS:
        return
    if not layer or {'"', "'"} <= set(layer):
        raise errors.UsageError(f"{layer!r} is no layer's name.", hint=f"layers: {', '.join(neurons.LAYERS)}")
    category = neurons.CATEGORY
    for store, table in (
        (model.StoreName.FLAT, category.source.qualified),
        (model.StoreName.HIERARCHICAL, category.roots[0].qualified),
    ):
        with contextlib.closing(call.system.store(store)) as opened, opened.cursor() as cursor:
            cursor.execute(f"SELECT FROM {table} WHERE layer = %s LIMIT 1", (layer,))
            if cursor.fetchone() is not None:
                return
    raise errors.UsageError(
        f"There is no layer {layer!r}.",
        hint=f"layers: {', '.join(neurons.LAYERS)}; those that there are: hal9-migrate neurons group",
    )
