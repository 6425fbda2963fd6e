"""The command: `python -m loadtests.governance` asks two gateways in turn, one with and one without governance.

Both run the echo engine in one process, so that a model's noise does not hide tenths of a millisecond. Requests
alternate one by one between the two, on open connections, so that a drift of the machine meets both.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
ABOVE_THRESHOLD, CANNOT_MEASURE = 2, 3
HIGH = 10**9  # checked and counted, never reached
LIMITS = {
    "requests_per_minute": HIGH,
    "tokens_per_minute": HIGH,
    "tokens_per_day": HIGH,
    "tokens_per_month": HIGH,
    "concurrent_requests": HIGH,
}
ON = {
    "audit": {"enabled": True},
    "usage": {"enabled": True},
    "quotas": {"defaults": {scope: LIMITS for scope in ("key", "tenant", "deployment")}},
}
OFF = {"audit": {"enabled": False}, "usage": {"enabled": False}}
NOTE = "67-year-old woman with hypertension. Medications: lisinopril 10 mg daily. Allergies: penicillin (rash). "


class BenchError(Exception):
    """The run cannot go on; the message says why."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.governance", description=__doc__)
    add = parser.add_argument
    add("--requests", type=int, default=2000, help="to each gateway (default %(default)s)")
    add("--warm-up", type=int, default=300, help="to each gateway, not counted (default %(default)s)")
    add("--prompt-bytes", type=int, default=2000, help="length of each prompt (default %(default)s)")
    add("--out", type=Path, default=ROOT / ".clinserve/bench/governance.json", help="where the whole result goes")
    add("--fail-over", type=float, metavar="MS", help="exit 2 when the median grows by more milliseconds than this")
    options = parser.parse_args(words)
    if min(options.requests, options.warm_up, options.prompt_bytes) < 1:
        parser.error("counts must be at least 1")
    return options


@contextlib.contextmanager
def gateway(name: str, governance: dict[str, Any], folder: Path) -> Iterator[tuple[http.client.HTTPConnection, str]]:
    """A product in one process with these settings: an open connection to it, and a key."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "server": {"runtime": "process", "port": port, "state_dir": str(folder / name)},
        "keys": {"demo_key_file": "demo.key"},
        "telemetry": {"request_log": "file"},
        "deployments": [{"name": "echo", "engine": {"kind": "echo"}, "limits": {"max_tokens": 8}}],
    }
    config, log = folder / f"{name}.yaml", folder / f"{name}.log"
    config.write_text(yaml.safe_dump(settings | governance))
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", "serve", "--config", str(config)],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        _wait(connection, server, log)
        yield connection, (folder / name / "demo.key").read_text().strip()
    finally:
        server.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()


def _wait(connection: http.client.HTTPConnection, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            if connection.getresponse().read() and connection.sock is not None:
                return
        connection.close()
        time.sleep(0.1)
    raise BenchError(f"a gateway did not start:\n{log.read_text(errors='replace')[-2000:]}")


def first_token(connection: http.client.HTTPConnection, key: str, prompt: str) -> float:
    """Ask for one stream, read it whole, and return the seconds until its first bytes."""
    body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": prompt}], "max_tokens": 8}
    payload = json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    begin = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", payload, headers)
    response = connection.getresponse()
    response.read(1)
    first = time.perf_counter() - begin
    rest = response.read()
    if response.status != 200 or not rest.endswith(b"data: [DONE]\n\n"):
        raise BenchError(f"a request failed with status {response.status}")
    return first


def measure(options: argparse.Namespace, say: Console) -> dict[str, list[float]]:
    """Seconds to first token of every counted request, by side."""
    times: dict[str, list[float]] = {"on": [], "off": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clinserve-bench-")))
        say.print("starting two gateways")
        sides = {
            name: stack.enter_context(gateway(name, governance, folder))
            for name, governance in (("off", OFF), ("on", ON))
        }
        for number in range(options.warm_up + options.requests):
            order = list(sides)
            random.shuffle(order)  # so that neither is always the first after a pause
            for name in order:
                head = secrets.token_hex(8)
                prompt = head + " " + (NOTE * (1 + options.prompt_bytes // len(NOTE)))[: options.prompt_bytes]
                seconds = first_token(*sides[name], prompt)
                if number >= options.warm_up:
                    times[name].append(seconds)
            if number % 500 == 0:
                say.print(f"{number} of {options.warm_up + options.requests}")
    return times


def added(times: dict[str, list[float]]) -> dict[str, float]:
    """Milliseconds that governance adds, at the median with its 95 % interval (bootstrap), and at p95."""
    chance = random.Random(1)
    on, off = times["on"], times["off"]
    differences = sorted(
        statistics.median(chance.choices(on, k=len(on))) - statistics.median(chance.choices(off, k=len(off)))
        for _ in range(400)
    )
    return {
        "p50_ms": 1000 * (statistics.median(on) - statistics.median(off)),
        "p50_low_ms": 1000 * differences[10],
        "p50_high_ms": 1000 * differences[-11],
        "p95_ms": 1000 * (statistics.quantiles(on, n=20)[-1] - statistics.quantiles(off, n=20)[-1]),
    }


def main(words: Sequence[str] | None = None) -> int:
    options, console = arguments(words), Console(highlight=False)
    try:
        times = measure(options, console)
    except BenchError as error:
        console.print(f"cannot measure: {error}", style="red", markup=False)
        return CANNOT_MEASURE
    except KeyboardInterrupt:
        return 130
    result = added(times)
    table = Table("TTFT, ms", "off", "on", "added", box=None)
    for name, pick in (("p50", statistics.median), ("p95", lambda v: statistics.quantiles(v, n=20)[-1])):
        more = f"{result[f'{name}_ms']:+.2f}"
        if name == "p50":
            more += f" ({result['p50_low_ms']:+.2f} to {result['p50_high_ms']:+.2f})"
        table.add_row(name, f"{1000 * pick(times['off']):.2f}", f"{1000 * pick(times['on']):.2f}", more)
    console.print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"added": result, "options": vars(options) | {"out": str(options.out)}, "s": times})
    )
    console.print(f"written: {options.out}")
    return ABOVE_THRESHOLD if options.fail_over is not None and result["p50_ms"] > options.fail_over else 0


if __name__ == "__main__":
    sys.exit(main())
