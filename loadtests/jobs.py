"""A batch through /v1/files and /v1/batches, as a client of the batch API meets it: upload, wait, collect."""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent

from loadtests.client import Caller, payload
from loadtests.metrics import Kind, Row
from loadtests.plan import Server
from loadtests.scenario import Flow
from loadtests.workloads import Ask

POLL_S = 1.0
ENDED = ("completed", "failed", "expired", "cancelled")


class BatchJob:
    """Every line is a request of the report; its end is when the poll that saw it done came back."""

    def __init__(self, caller: Caller, server: Server, flow: Flow, now: Callable[[], float]) -> None:
        self._caller = caller
        self._server = server
        self._flow = flow
        self._now = now

    def rows(self, asks: Sequence[Ask], begin: float, until: float) -> Iterator[Row]:
        """Run it, and say of each line what became of it; what is not done at `until` is cancelled."""
        key, sent = self._flow.key, self._now()
        try:
            upload = self._caller.json("POST", "/v1/files", key, *_form(self._lines(asks)))
            job = {"input_file_id": upload["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            batch = self._caller.json("POST", "/v1/batches", key, json.dumps(job).encode())
        except (OSError, ValueError, KeyError):
            yield from (self._row(number, "refused", begin, sent) for number in range(len(asks)))
            return
        done: dict[Kind, int] = {"ok": 0, "failed": 0}
        while True:
            gevent.sleep(POLL_S)
            try:
                batch = self._caller.json("GET", f"/v1/batches/{batch['id']}", key)
            except (OSError, ValueError):
                continue
            counts = batch["request_counts"]
            for kind, count in (("ok", counts["completed"]), ("failed", counts["failed"])):
                while done[kind] < count:  # type: ignore[index]
                    done[kind] += 1  # type: ignore[index]
                    yield self._row(sum(done.values()), kind, begin, sent)  # type: ignore[arg-type]
            if batch["status"] in ENDED or self._now() > until - 2 * POLL_S:
                break
        if batch["status"] not in ENDED:
            self._caller.json("POST", f"/v1/batches/{batch['id']}/cancel", key)
        left = len(asks) - sum(done.values())
        yield from (self._row(len(asks) - number, "unfinished", begin, sent) for number in range(left))

    def _lines(self, asks: Sequence[Ask]) -> bytes:
        lines = []
        for number, ask in enumerate(asks):
            body: dict[str, Any] = payload(self._server, self._flow.client, ask)
            del body["stream"], body["stream_options"]
            line = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.append(json.dumps(line))
        return "\n".join(lines).encode() + b"\n"

    def _row(self, number: int, kind: Kind, begin: float, sent: float) -> Row:
        end = self._now()
        good = self._flow.objective.met_by(kind, None, None, end - begin)
        return Row(
            flow=self._flow.name, label="", stage="", tenant=self._flow.key, number=number, kind=kind, good=good,
            measured=True, status=0, attempts=1, intended=begin, sent=sent, first=None, end=end, prompt_tokens=0,
            answer_tokens=0, frames=0, stall=0.0,
        )  # fmt: skip


def _form(content: bytes) -> tuple[bytes, str]:
    """A multipart form with the file and its purpose, and its media type."""
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="load.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
