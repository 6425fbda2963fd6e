"""What a platform team relies on: batching, freed engines, closed routes, metrics, privacy, recovery, the end."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from tests.e2e.conftest import MODEL
from tests.e2e.product import ROOT, Product

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
CANARY = "Zebulon-Quackenbush-19470231"


def metric(product: Product, name: str) -> float:
    """Sum of a metric's series in the one scrape."""
    text = httpx.get(product.metrics_url, timeout=30).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


def eventually(check: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.1)
    return False


def ask(product: Product, *, tokens: int, stream: bool = False) -> dict[str, object]:
    return {
        "url": f"{product.url}/v1/chat/completions",
        "headers": {"authorization": f"Bearer {product.key}"},
        "json": {"model": MODEL, "messages": [{"role": "user", "content": f"hello {CANARY}"}], "stream": stream}
        | {"max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True},
    }


def test_the_printed_curl_and_python_lines_work(product: Product) -> None:
    curl = next(line for line in product.output.splitlines() if line.startswith("curl "))
    answer = subprocess.run(shlex.split(curl), capture_output=True, text=True, check=True).stdout
    assert '"finish_reason"' in answer
    _, _, after = product.output.partition("from openai import")
    python = "from openai import" + after.partition("\nCtrl-C")[0]
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def test_the_key_file_is_for_its_owner_only(product: Product) -> None:
    assert stat.S_IMODE((product.state_dir / "demo.key").stat().st_mode) == 0o600


def test_no_process_of_it_dumps_core_or_leaves_a_file_that_others_may_read(product: Product) -> None:
    processes = product.processes()
    names = " ".join(" ".join(one.cmdline()) for one in processes)
    assert all(word in names for word in ("raylet", "gcs_server", "haproxy", "ServeReplica", "VLLM"))
    for one in processes:
        limits, status = (Path(f"/proc/{one.pid}/{name}").read_text() for name in ("limits", "status"))
        assert re.search(r"Max core file size +0 +0 ", limits), one.cmdline()
        assert "Umask:\t0077" in status, one.cmdline()
    assert product.logs.is_relative_to(product.state_dir), "Ray's own place, /tmp/ray, is everybody's"
    assert stat.S_IMODE((product.state_dir / "ray").stat().st_mode) == 0o700
    opened = [path for path in product.state_dir.rglob("*") if is_open(path)]
    assert [path for path in opened if not path.is_relative_to(product.state_dir / "ray" / "sessions")] == []


def is_open(path: Path) -> bool:
    mode = path.lstat().st_mode
    return not stat.S_ISLNK(mode) and bool(mode & 0o077)


def test_rays_token_is_its_owners_only_and_this_clusters_only(product: Product) -> None:
    paths = {one.environ().get("RAY_AUTH_TOKEN_PATH") for one in product.processes()}
    (token,) = {Path(path) for path in paths if path}
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    elsewhere = Path.home() / ".ray" / "auth_token"
    assert not elsewhere.exists() or elsewhere.read_text() != token.read_text()


async def test_sixteen_streams_are_answered_together(product: Product) -> None:
    async with httpx.AsyncClient(timeout=300) as client:

        async def seconds(streams: int) -> float:
            began = time.perf_counter()
            answers = await asyncio.gather(
                *(client.post(**ask(product, tokens=200, stream=True)) for _ in range(streams))  # type: ignore[arg-type]
            )
            assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)
            return time.perf_counter() - began

        await seconds(1)
        alone = await seconds(1)
        together = await seconds(16)
    # Not a benchmark: one after the other would be 16 times as long, and batching is far from that.
    assert together < 8 * alone


def test_a_client_that_leaves_frees_the_engine_within_a_second(product: Product) -> None:
    def running() -> float:
        return metric(product, "vllm:num_requests_running")

    with httpx.stream("POST", **ask(product, tokens=1800, stream=True), timeout=60) as answer:  # type: ignore[arg-type]
        parts = answer.iter_text()  # kept: a collected generator closes the connection
        next(parts)
        assert eventually(lambda: running() == 1, 5)
    left = time.monotonic()
    assert eventually(lambda: running() == 0, 5)
    assert time.monotonic() - left < 1.5, "measured from the socket's close, with a scrape's own time"


def test_a_client_that_leaves_before_a_whole_answer_frees_the_engine_too(product: Product) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(**ask(product, tokens=1800), timeout=httpx.Timeout(30, read=1.0))  # type: ignore[arg-type]
    assert eventually(lambda: metric(product, "vllm:num_requests_running") == 0, 3)


def test_engine_routes_are_closed_on_the_apis_port_whatever_is_known(product: Product) -> None:
    engine = f"{product.url}/_engine/{MODEL}"
    for path in ("/v1/models", "/v1/chat/completions", "/pause", "/tokenize", "/health", "/metrics", "/docs"):
        for headers in ({}, {"authorization": f"Bearer {product.key}"}, {"x-clinserve-engine": "guess"}):
            assert httpx.get(engine + path, headers=headers).status_code == 404, path
    nowhere = httpx.get(f"{product.url}/_engine/nothing/v1/models")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "not_found")
    secret = (product.state_dir / "secrets" / "engine").read_text()
    assert httpx.get(f"{engine}/v1/models", headers={"x-clinserve-engine": secret}).status_code == 404, "nor with it"


def test_one_scrape_shows_gateway_and_vllm(product: Product) -> None:
    before = metric(product, "clinserve_tokens_total")
    assert httpx.post(**ask(product, tokens=10), timeout=60).status_code == 200  # type: ignore[arg-type]
    assert metric(product, "clinserve_tokens_total") > before
    assert metric(product, "vllm:generation_tokens_total") > 0
    assert metric(product, "clinserve_requests_in_flight") == 0


async def test_what_vllm_reports_to_the_scaling_is_what_its_metrics_say(product: Product) -> None:
    """The chat deployment of these tests scales from 1 to 1."""

    async def told(client: httpx.AsyncClient) -> tuple[int, int]:
        """Requests in flight and tokens a second, as the last decision saw them."""
        headers = {"authorization": f"Bearer {product.key}"}
        cards = (await client.get(f"{product.url}/admin/v1/status", headers=headers)).json()["deployments"]
        detail = next(card["scaling"]["detail"] for card in cards if card["name"] == MODEL)
        found = re.match(r"(\d+) in flight \(\d+ waiting\), (\d+) tokens/s", detail)
        assert found, detail
        return int(found[1]), int(found[2])

    async with httpx.AsyncClient(timeout=300) as client:
        asked = [asyncio.create_task(client.post(**ask(product, tokens=1200, stream=True))) for _ in range(6)]  # type: ignore[arg-type]
        end, seen = time.monotonic() + 30, (0, 0)
        while time.monotonic() < end and not (seen[0] == 6 and seen[1] > 10):
            await asyncio.sleep(0.5)
            seen = await told(client)
        assert seen[0] == 6 and seen[1] > 10
        running = await asyncio.to_thread(metric, product, "vllm:num_requests_running")
        assert running == 6
        await asyncio.gather(*asked)
        end = time.monotonic() + 15
        while (await told(client))[0]:
            assert time.monotonic() < end
            await asyncio.sleep(0.5)


def test_no_log_and_no_metric_holds_content_or_keys(product: Product, client: openai.OpenAI) -> None:
    said = {"type": "object", "properties": {"name": {"const": CANARY}}, "required": ["name"]}
    asked = [{"role": "user", "content": f"Patient {CANARY}"}]
    fixed = {"type": "json_schema", "json_schema": {"name": "who", "schema": said}}
    answer = client.chat.completions.create(model=MODEL, messages=asked, max_tokens=120, response_format=fixed)  # type: ignore[call-overload]
    assert CANARY in answer.choices[0].message.content
    bodies = [
        {"model": CANARY, "messages": asked},
        {"model": MODEL, "messages": [{"role": CANARY, "content": [{"type": CANARY}]}]},
        {"model": MODEL, "messages": asked, CANARY: CANARY, "temperature": CANARY},
        {"model": MODEL, "messages": asked, "tools": [{"type": "function", "function": {CANARY: CANARY}}]},
        {
            "model": MODEL,
            "messages": asked,
            "response_format": {"type": "json_schema", "json_schema": {"schema": CANARY}},
        },
        {"model": MODEL, "messages": asked, "stop": {"a": CANARY}, "seed": CANARY},
    ]
    for body in bodies:
        refused = httpx.post(
            f"{product.url}/v1/chat/completions?q={CANARY}",
            headers={"authorization": f"Bearer {product.key}", "x-request-id": CANARY},
            json=body,
        )
        assert 400 <= refused.status_code < 500
        assert CANARY not in refused.text + str(refused.headers)
    time.sleep(2)  # Serve buffers its logs
    texts = {"metrics": httpx.get(product.metrics_url, timeout=30).text, "terminal": product.output}
    for folder in (product.logs, product.state_dir):  # the database with usage and audit is in the latter
        files = [file for file in folder.rglob("*") if file.is_file() and file != product.state_dir / "demo.key"]
        texts |= {str(file): file.read_bytes().decode(errors="replace") for file in files}
    assert len(texts) > 10
    secret = product.key.rpartition("_")[2]
    assert [where for where, text in texts.items() if CANARY in text] == []
    assert [where for where, text in texts.items() if secret in text and where != "terminal"] == []


def test_a_dead_engine_is_an_error_event_and_who_comes_next_is_held_or_told_to_wait(product: Product) -> None:
    with httpx.stream("POST", **ask(product, tokens=1800, stream=True), timeout=60) as answer:  # type: ignore[arg-type]
        parts = answer.iter_text()
        text = next(parts)
        product.engine_core(MODEL).kill()
        text += "".join(parts)
    *_, last = text.strip().split("\n\n")
    assert last.startswith('data: {"error"')
    assert '"code":"engine_failed"' in last
    assert httpx.get(f"{product.url}/readyz", timeout=30).status_code == 503

    def answered() -> bool:
        answer = httpx.post(**ask(product, tokens=5), timeout=120)  # type: ignore[arg-type]
        if answer.status_code == 503:
            time.sleep(min(5, int(answer.headers["retry-after"])))
        return {200: True, 503: False}[answer.status_code]

    assert eventually(answered, 300)
    assert httpx.get(f"{product.url}/readyz", timeout=30).status_code == 200


def test_the_replica_was_warmed_and_says_what_its_start_took(product: Product) -> None:
    status = httpx.get(f"{product.url}/admin/v1/status", headers={"authorization": f"Bearer {product.key}"}, timeout=30)
    start = next(one for one in status.json()["deployments"] if one["name"] == MODEL)["last_start"]
    assert list(start["phases"]) == ["node", "weights", "engine", "warm_up"] and 0 < start["seconds"] < 300


def test_ctrl_c_lets_answers_end_writes_the_books_and_stops_every_process(product: Product) -> None:
    """Last in this file: it ends the product that the others use."""
    processes = product.processes()
    assert len(processes) > 8
    with httpx.stream("POST", **ask(product, tokens=1500, stream=True), timeout=60) as answer:  # type: ignore[arg-type]
        parts = answer.iter_text()
        next(parts)
        stopping = threading.Thread(target=product.stop)
        stopping.start()
        assert "".join(parts).endswith("data: [DONE]\n\n")
    stopping.join()
    assert product.status == 0
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    assert not (ROOT / "core").exists()

    def clinserve(*words: str) -> str:
        command = [sys.executable, "-m", "serving.cli", "--config", product.config, *words]
        done = subprocess.run(command, cwd=ROOT, env=product.environment, capture_output=True, text=True, check=True)
        return done.stdout

    *_, last = json.loads(clinserve("usage", "--records", "--json"))
    assert (last["outcome"], last["completion_tokens"]) == ("ok", 1500)
    verdict = clinserve("audit", "verify")
    assert verdict.strip().endswith("valid") and verdict.count("not closed") == product.killed_gateways
