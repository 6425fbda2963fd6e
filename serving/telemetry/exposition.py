"""What a scrape gives: all processes of this node in one page, in the format that is asked for.

With PROMETHEUS_MULTIPROC_DIR set, each process writes files there, also vLLM's, and one scrape adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics

from serving.telemetry.ended import counted_files, readable
from serving.telemetry.exemplars import Exemplars

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
_VLLM = "vllm:"


class Page:
    """One scrape's families: this process's, or the node's where processes share a directory."""

    def __init__(self, own: CollectorRegistry, exemplars: Exemplars, directory: Path | None) -> None:
        self._own = own
        self._exemplars = exemplars
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        families = _of_node(self._directory) if self._directory else self._own.collect()
        return self._exemplars.added_to(families)


def page(own: CollectorRegistry, exemplars: Exemplars, accept: str, directory: Path | None = None) -> tuple[bytes, str]:
    """The page and its content type. accept: the header. Exemplars are in OpenMetrics only.

    directory: of the node's processes; that of this process unless given.
    """
    shared = os.environ.get(MULTIPROCESS_DIR)
    families = Page(own, exemplars, directory or (Path(shared) if shared else None))
    encode, content_type = choose_encoder(accept)
    if content_type.startswith("application/openmetrics-text"):
        # Without it, prometheus_client 0.26 writes vllm:x as vllm_x; all names here are ones that need no escaping.
        text = openmetrics.generate_latest(families, escaping=openmetrics.ALLOWUTF8)  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST
    return encode(families), content_type


def _read(files: Sequence[Path]) -> dict[str, Any]:
    found: dict[str, Any] = MultiProcessCollector._read_metrics([str(file) for file in files])  # type: ignore[no-untyped-call]
    return found


def _of_node(directory: Path) -> Iterable[Metric]:
    """The sum of all processes, but for vLLM's gauges: these are shown for each process that lives, by its `pid`.

    vLLM has the last writer win, which fits one replica: of two on a node only one would be seen.
    (`_multiprocess_mode` is what prometheus_client itself goes by, between reading and adding up.)
    """
    with counted_files(directory) as files:
        try:
            families = _read(files)
        except Exception:  # what a damaged file makes of its reader is many things
            families = _read(readable(files))
    for family in families.values():
        if family.type == "gauge" and family.name.startswith(_VLLM):
            family._multiprocess_mode = "all"
    summed: Iterable[Metric] = MultiProcessCollector._accumulate_metrics(families, True)  # type: ignore[no-untyped-call]
    return summed
