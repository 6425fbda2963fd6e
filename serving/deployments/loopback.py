"""On one machine Ray and all that it starts listen on loopback. That takes two things for which Ray has no option; the
private names that they hang on are here only, and a replica does not start where one is missing.
"""

from __future__ import annotations

import os
from typing import Any

ONE_MACHINE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""For the environment: Ray's word for a Ray of one machine, as on a Mac. Its own ports, some twenty, are on loopback
then (ray._private.services.get_node_ip_address).
"""
_EVERYWHERE, _HERE = "[::]:0", "127.0.0.1:0"


def keep_calls_on_loopback() -> None:
    """Have this replica take calls from other deployments on loopback, if it is of one machine.

    Ray Serve opens a port for them on all interfaces, and unpickles what comes. To be called before a replica is up.
    """
    if not ONE_MACHINE.items() <= os.environ.items():
        return
    from ray.serve._private import replica

    bind = replica.add_port_to_grpc_server
    if getattr(bind, "on_loopback", False):
        return

    def bind_on_loopback(server: Any, address: str) -> int:
        return int(bind(server, _HERE if address == _EVERYWHERE else address))

    bind_on_loopback.on_loopback = True  # type: ignore[attr-defined]
    replica.add_port_to_grpc_server = bind_on_loopback
