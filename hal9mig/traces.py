"""Traces for OpenTelemetry, where it is installed and asked for: from a command to the batches that it led to.

Nothing of it is loaded unless a variable of its own says where traces go, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``. They
go by OTLP over HTTP, and no other way. What stands in an attribute are names and numbers, and never a record.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from typing import Any

_ASKED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: Seconds that a command waits at its end for a collector that does not take what it is sent.
_PATIENCE = 2
#: What a run keeps of the command that ordered it, as the W3C writes it.
PARENT = "traceparent"


def asked() -> bool:
    """Whether traces go anywhere."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    other = os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
    return not off and not other and any(os.environ.get(name) for name in _ASKED)


@contextlib.contextmanager
def span(name: str, *, parent: str = "", **attributes: str | int | float) -> Iterator[Any]:
    """Trace a block; it gives what attributes can be set on, or None where nothing is traced.

    Args:
        parent: what ``carried`` returned in another process; by default the block that this one is in.
    """
    tracer = _tracer(os.getpid()) if asked() else None
    if tracer is None:
        yield None
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation import tracecontext

    context = tracecontext.TraceContextTextMapPropagator().extract({PARENT: parent}) if parent else None
    named = {f"hal9.{key}": value for key, value in attributes.items()}
    # What an error says may hold more than a trace should: its code is enough.
    with tracer.start_as_current_span(
        name, context=context, attributes=named, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield made
        except BaseException as error:
            made.set_attribute("hal9.error", getattr(error, "code", type(error).__name__))
            made.set_status(trace.StatusCode.ERROR)
            raise


def carried() -> str:
    """Return what leads from another process to the block that this is called in; empty where nothing is traced."""
    if not asked() or _tracer(os.getpid()) is None:
        return ""
    from opentelemetry.trace.propagation import tracecontext

    found: dict[str, str] = {}
    tracecontext.TraceContextTextMapPropagator().inject(found)
    return found.get(PARENT, "")


@functools.lru_cache(maxsize=1)
def _tracer(pid: int) -> Any:
    """Return this process's tracer, None where OpenTelemetry is not installed; a fork makes its own.

    Threads that send spans do not survive a fork, so each process has a provider of its own.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return None
    # A collector that is away is said in a line, and not in one for each try.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    exporter = OTLPSpanExporter(timeout=None if "OTEL_EXPORTER_OTLP_TIMEOUT" in os.environ else _PATIENCE)
    service = os.environ.get("OTEL_SERVICE_NAME", "hal9-migrate")
    provider = TracerProvider(resource=Resource.create({"service.name": service, "process.pid": pid}))
    # Soon: a pool process that is killed takes with it what it has not sent.
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return provider.get_tracer("hal9mig")
