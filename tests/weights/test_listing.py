"""What a storage account says that means harm: names that would leave the directory, and answers cut short."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from serving.weights.source import BlobSource, WeightsError
from serving.weights.store import Wanted
from tests.weights.models import store_in

SOURCE = BlobSource("account1", "models", "m")


@contextmanager
def account(names: list[str], size: int = 4, body: bytes = b"evil") -> Iterator[str]:
    """An account whose container lists these names, each of that size, and answers any blob with this body."""
    blob = (
        "<Blob><Name>{name}</Name><Properties><Etag>e</Etag><Content-Length>{size}</Content-Length>"
        "<BlobType>BlockBlob</BlobType></Properties></Blob>"
    )
    blobs = "".join(blob.format(name=escape(name), size=size) for name in names)
    listing = f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>{blobs}</Blobs></EnumerationResults>'

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = listing.encode() if "comp=list" in self.path else body
            self.send_response(200 if "comp=list" in self.path else 206)
            self.send_header("content-type", "application/xml")
            self.send_header("content-range", f"bytes 0-{len(content) - 1}/{size}")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/cron.d/x", "a//b", "./a", "a/.", "..", "a\\..\\b", "a\nb", "a\u202eb", "a/\u0085"],
)
def test_a_name_that_is_no_path_below_the_prefix_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with account([f"m/{name}", "m/config.json"]) as url, pytest.raises(WeightsError, match="is no path below it"):
        store_in(tmp_path / "here", url).ready(Wanted(SOURCE, "sha256:" + "0" * 64), print)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".lock")] == []


def test_a_blob_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    with account(["m/a", "m/a/b"]) as url, pytest.raises(WeightsError, match="as if it were a folder"):
        store_in(tmp_path, url).ready(Wanted(SOURCE, "sha256:" + "0" * 64), print)


def test_a_piece_of_the_wrong_size_is_not_kept(tmp_path: Path) -> None:
    with (
        account(["m/model.safetensors"], size=8, body=b"nine byte") as url,
        pytest.raises(WeightsError, match="broke off"),
    ):
        store_in(tmp_path, url, waits=(0.01,)).ready(Wanted(SOURCE, "sha256:" + "0" * 64), print)
