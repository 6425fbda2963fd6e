"""What huggingface_hub asks of a hub for a snapshot: one repository's listing and its files."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "org/model"


class Hub:
    """files: of the one commit. status: what it answers instead, with the hub's own error code. asked: files that were
    fetched.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.status: tuple[int, str] | None = None
        self.asked: list[str] = []
        hub = self

        class Answer(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(head=True)

            def do_GET(self) -> None:
                self.answer(head=False)

            def answer(self, *, head: bool) -> None:
                path = self.path.partition("?")[0]
                if hub.status is not None:
                    status, code = hub.status
                    return self.say(status, b"{}", x_error_code=code)
                if path in (f"/api/models/{NAME}/revision/{COMMIT}", f"/api/models/{NAME}/revision/main"):
                    listing = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in hub.files]}
                    return self.say(200, json.dumps(listing).encode())
                if path == f"/api/models/{NAME}/tree/{COMMIT}":
                    tree = [{"type": "file", "path": n, "size": len(b), "oid": "0" * 40} for n, b in hub.files.items()]
                    return self.say(200, json.dumps(tree).encode())
                name = path.removeprefix(f"/{NAME}/resolve/{COMMIT}/")
                if name not in hub.files:
                    return self.say(404, b"{}", x_error_code="EntryNotFound")
                if not head:
                    hub.asked.append(name)
                body = hub.files[name]
                self.say(200, body, head=head, etag=f'"{hashlib.sha1(body).hexdigest()}"', x_repo_commit=COMMIT)

            def say(self, status: int, body: bytes, *, head: bool = False, **headers: str) -> None:
                self.send_response(status)
                for key, value in {
                    "content-length": str(len(body)),
                    "content-type": "application/json",
                    **headers,
                }.items():
                    self.send_header(key.replace("_", "-"), value)
                self.end_headers()
                if not head:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
