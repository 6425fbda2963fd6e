"""Ray Serve's switches. They are read when ray.serve is imported, so they are set before, in every process."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from serving.deployments.loopback import ONE_MACHINE
from serving.deployments.proxy import command as proxy
from serving.deployments.proxy.command import haproxy_command
from serving.deployments.proxy.proof import PROOF

# Why each: measured in the README's Decisions, "HAProxy and direct streaming".
SWITCHES = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # HAProxy would write a line for each request, which a Python process then parses; our metrics count requests.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.deployments.http_middleware.middlewares",
    # The controller's loop: ten rounds a second are a twentieth of a core, for changes that come a few times a day.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # A replica that fails its health checks is killed, not drained: one that hangs would hold its requests and its GPU
    # for as long as a drain may take.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    # HAProxy that has died is missed after three checks: in 3 s rather than 30.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # A replica that stops goes on for so long, until HAProxy has taken it off its list; 30 s are meant for the cloud's
    # load balancers.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # Ray runs its workers at nice 15, behind everything else on the machine; here they are what the machine is for.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # A client that neither sends what is missing of its body nor takes what it is sent is let go.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    # The control plane takes commands that run code; it must not take them from everybody (CVE-2023-48022).
    "RAY_AUTH_MODE": "token",
}


def serve_environment(
    *, max_stream: float, run_dir: Path, host: str = "127.0.0.1", connections: int = proxy.DEFAULT_CONNECTIONS
) -> dict[str, str]:
    """The switches for this machine, with side ports that are free, so that two servers can share it.

    host: where HAProxy listens; all else stays on the machine. connections: of one address at a time, 0 for any number.
    """
    metrics, stats, fallback_http, fallback_grpc = free_ports(4)
    haproxy_command(run_dir)
    return node_environment(max_stream=max_stream, run_dir=run_dir) | {
        "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, (os.cpu_count() or 1) // 2)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        **ONE_MACHINE,
        proxy.HOST: host,
        proxy.CONNECTIONS: str(connections),
        PROOF: secrets.token_hex(32),
    }


def node_environment(*, max_stream: float, run_dir: Path) -> dict[str, str]:
    """The switches for a machine that nobody shares, such as a pod, with HAProxy's files in `run_dir`.

    The command that starts HAProxy must be there already: `haproxy_command`, or this module run with the folder's name.
    max_stream: seconds. Every replica change reloads HAProxy, and the old worker cuts what still runs after this
    (https://github.com/ray-project/ray/issues/66056).
    """
    return SWITCHES | {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(run_dir / proxy.COMMAND),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(int(max_stream) + 60),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run_dir / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run_dir / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run_dir / "server-state"),
    }


def apply(switches: Mapping[str, str], environ: dict[str, str] | os._Environ[str] = os.environ) -> None:
    """Set what is not set: an operator's own value wins."""
    for name, value in switches.items():
        environ.setdefault(name, value)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":  # a pod's init container: the image may be read-only, and its Python's place differs
    haproxy_command(Path(sys.argv[1]))
