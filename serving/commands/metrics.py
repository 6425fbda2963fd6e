"""`clinserve metrics`: one scrape of all processes of this machine, for machines that run engines and no gateway."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from serving.telemetry.exemplars import Exemplars
from serving.telemetry.exposition import page
from serving.telemetry.listener import MetricsServer


def server(directory: Path, host: str, port: int) -> MetricsServer:
    """It listens; `serve_forever` answers. directory: where the processes leave their metrics."""
    nothing, none = CollectorRegistry(), Exemplars()

    def render(accept: str) -> tuple[bytes, str]:
        directory.mkdir(parents=True, exist_ok=True)
        return page(nothing, none, accept, directory)

    return MetricsServer(render, host, port)
