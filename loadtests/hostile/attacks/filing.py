"""What uploads and batches are made with."""

import json
from typing import Any

from loadtests.hostile.attacks.schemas import CHAT
from loadtests.hostile.wire import Mallory


def multipart(content: bytes, name: str = "lines.jsonl", boundary: str = "x-x-x") -> tuple[bytes, str]:
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


async def upload(mallory: Mallory, content: bytes) -> str | None:
    body, kind = multipart(content)
    answer = await mallory.ask(mallory.post("/v1/files", body, headers={"Content-Type": kind}))
    return str(json.loads(answer.body)["id"]) if answer.outcome == "200" else None


async def run_batch(mallory: Mallory, bodies: list[dict[str, Any]]) -> None:
    """Submit it, wait for its end or the attack's, then cancel it. Tallies what became of its lines, too."""
    lines = [
        json.dumps({"custom_id": str(n), "method": "POST", "url": CHAT, "body": body}) for n, body in enumerate(bodies)
    ]
    file = await upload(mallory, "\n".join(lines).encode())
    if file is None:
        return
    job = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    made = await mallory.ask(mallory.post("/v1/batches", job))
    if made.outcome != "200":
        return
    batch = json.loads(made.body)
    await mallory.steadily(
        lambda _: mallory.ask(mallory.request("GET", f"/v1/batches/{batch['id']}")), rate=2, at_most=2
    )
    shown = await mallory.ask(mallory.request("GET", f"/v1/batches/{batch['id']}"))
    if shown.outcome == "200":
        counts = json.loads(shown.body)["request_counts"]
        mallory.tally["lines done"] += counts["completed"]
        mallory.tally["lines refused"] += counts["failed"]
    await mallory.ask(mallory.post(f"/v1/batches/{batch['id']}/cancel", {}), count=False)
