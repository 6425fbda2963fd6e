"""`make observe`: Prometheus and, where installed, Grafana beside a running `make serve`, on loopback, until Ctrl-C.

With the rules and dashboards of this folder. Only the standard library.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_SECONDS = 60
METRICS_ABOVE = 1464  # from the API's port to that of metrics, as settings have it
GRAFANA_HOMES = ("/usr/share/grafana", "/opt/grafana", "/opt/homebrew/share/grafana")


def main() -> int:
    options = read_options()
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        print("make observe: needs Prometheus. On Debian and Ubuntu: apt-get install prometheus", file=sys.stderr)
        return 1
    target = f"127.0.0.1:{options.port + METRICS_ABOVE}"
    if not answers(f"http://{target}/metrics"):
        print(f"  Nothing answers at http://{target}/metrics yet; `make serve` starts it. Going on.")
    state = options.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        url = f"http://127.0.0.1:{options.prometheus_port}"
        command = prometheus_command(prometheus, target, state, options.prometheus_port)
        with running(command, state / "prometheus.log", ready=f"{url}/-/ready"):
            print(f"  Prometheus  {url}/alerts")
            with grafana(url, state, options.grafana_port):
                print("  Ctrl-C stops it.", flush=True)
                while True:
                    time.sleep(3600)
    except KeyboardInterrupt:
        return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="of clinserve")
    parser.add_argument("--prometheus-port", type=int, default=9090)
    parser.add_argument("--grafana-port", type=int, default=3000)
    parser.add_argument("--state", type=Path, default=Path(".clinserve/observe"), help="where data and logs are kept")
    return parser.parse_args()


def prometheus_command(prometheus: str, target: str, state: Path, port: int) -> list[str]:
    """Of this folder's configuration, with that target."""
    config = (HERE / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:9464", target).replace("rules/*.yml", str(HERE / "rules" / "*.yml"))
    (state / "prometheus.yml").write_text(config.replace(" 15s", " 5s"))
    return [
        prometheus,
        f"--config.file={state / 'prometheus.yml'}",
        f"--storage.tsdb.path={state / 'prometheus'}",
        "--storage.tsdb.retention.time=7d",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]


@contextmanager
def grafana(prometheus: str, state: Path, port: int) -> Iterator[None]:
    """With our dashboards, for anyone on this machine to look at; nothing where it is not installed."""
    binary = shutil.which("grafana") or shutil.which("grafana-server")
    home = next((home for home in GRAFANA_HOMES if Path(home).is_dir()), None)
    if binary is None or home is None:
        print(f"  Grafana is not installed; its dashboards are in {HERE / 'dashboards'}")
        yield
        return
    environment = {
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_DATA": str(state / "grafana"),
        "GF_PATHS_LOGS": str(state / "grafana"),
        "GF_PATHS_PROVISIONING": str(HERE / "grafana"),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "CLINSERVE_PROMETHEUS": prometheus,
        "CLINSERVE_DASHBOARDS": str(HERE / "dashboards"),
    }
    command = [binary, *(["server"] if Path(binary).name == "grafana" else []), "--homepath", home]
    url = f"http://127.0.0.1:{port}"
    with running(command, state / "grafana.log", ready=f"{url}/api/health", environment=environment):
        print(f"  Grafana     {url}/d/clinserve-service")
        yield


@contextmanager
def running(command: list[str], log: Path, *, ready: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """A process that answers at `ready`."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | (environment or {}))
    try:
        end = time.monotonic() + START_SECONDS
        while not answers(ready):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"make observe: {Path(command[0]).name} does not start; see {log}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(main())
