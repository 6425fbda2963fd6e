"""Traces to Azure Monitor, by azure-monitor-opentelemetry-exporter. Signs in as vault.py does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from serving.vault import default_credential

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from opentelemetry.sdk.trace.export import SpanExporter

CONNECTION_STRING = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_SILENT = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED",
)
"""What the exporter would tell Microsoft beside the spans, and the switches that it would take from there."""


def azure_exporter(connection_string: str, *, entra: bool, credential: TokenCredential | None = None) -> SpanExporter:
    """entra: sign in with Entra ID; else the connection string's key is enough. credential: default_credential() unless
    given. Raises ValueError.
    """
    for switch in _SILENT:
        os.environ.setdefault(switch, "true")
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter

    from serving.telemetry.outbox import hush

    hush("azure.monitor.opentelemetry")
    exporter: SpanExporter = AzureMonitorTraceExporter(
        connection_string=connection_string,
        credential=(credential or default_credential()) if entra else None,
        disable_offline_storage=True,  # else spans that could not be sent lie in /tmp
    )
    return exporter
