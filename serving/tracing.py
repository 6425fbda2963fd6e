"""The assembly's part for traces: where the gateway's spans go, and what makes vLLM send its own.

settings ─┬─ OTLP receiver ──┬─ SpanTraces ── the gateway
          ├─ Azure Monitor ──┘
          └─ OTLP receiver ───── engine arguments and environment of each vLLM replica
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from serving import __version__
from serving.settings import Settings, SettingsError
from serving.telemetry.metrics import Metrics
from serving.telemetry.traces import NoTraces, Traces, traces_url


def build_traces(settings: Settings, metrics: Metrics, environ: Mapping[str, str] = os.environ) -> Traces:
    """Raises SettingsError."""
    traces = settings.telemetry.traces
    if traces.otlp is None and traces.azure == "off":
        return NoTraces()
    from serving.telemetry.spans import SpanTraces, otlp_exporter

    exporters = [otlp_exporter(traces.otlp)] if traces.otlp else []
    if traces.azure != "off":
        from serving.azure_traces import azure_exporter

        try:
            exporters.append(azure_exporter(_connection_string(environ), entra=traces.azure == "entra"))
        except ValueError as error:
            raise SettingsError(f"telemetry.traces.azure: {error}") from None
    return SpanTraces(
        exporters,
        version=__version__,
        ratio=traces.ratio,
        trust_clients=traces.trust_clients,
        size=traces.queue,
        on_spans=lambda result, count: metrics.noted("spans", result, count=count),
    )


def check_traces(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """What would keep a gateway from starting. Raises SettingsError."""
    if settings.telemetry.traces.azure != "off":
        _connection_string(environ)


def _connection_string(environ: Mapping[str, str]) -> str:
    from serving.azure_traces import CONNECTION_STRING

    text = environ.get(CONNECTION_STRING, "").strip()
    if not text:
        raise SettingsError(f"telemetry.traces.azure: {CONNECTION_STRING} is empty or not set")
    return text


def vllm_args(settings: Settings) -> dict[str, Any]:
    """Engine arguments that make vLLM send a span of each request that is traced."""
    otlp = settings.telemetry.traces.otlp
    return {"otlp_traces_endpoint": traces_url(otlp)} if otlp else {}


def vllm_env(settings: Settings) -> dict[str, str]:
    """vLLM would speak gRPC otherwise, without TLS."""
    if not settings.telemetry.traces.otlp:
        return {}
    return {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": "clinserve-engine"}
