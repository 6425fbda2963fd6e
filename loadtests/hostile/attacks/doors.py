"""Ways around the front door: other ports of the product, and who claims to come from somewhere else."""

from loadtests.hostile.attack import Kind, asking, gets
from loadtests.hostile.attacks.schemas import CHAT
from loadtests.hostile.wire import Mallory

FORGED = {
    "X-Forwarded-For": "10.99.0.7", "X-Real-IP": "10.99.0.7", "Forwarded": "for=10.99.0.7",
    "True-Client-IP": "10.99.0.7", "X-Forwarded-Host": "admin", "X-Forwarded-Proto": "https", "X-Tenant-Id": "ward",
    "CF-Connecting-IP": "10.99.0.7",
}  # fmt: skip


def forged_place(m: Mallory, n: int) -> bytes:
    """With a key that only 10.99.0.0/16 may use."""
    forged = FORGED | {
        "X-Forwarded-For": ("10.99.0.7", "10.99.0.7, 10.99.0.8", "10.99.0.7\r\nX-Forwarded-For: 10.99.0.9")[n % 3]
    }
    return m.post(CHAT, m.chat(), key=m.target.bound_key, headers=forged)


async def other_ports(mallory: Mallory) -> None:
    """The same at every port that the product listens on: a status 200 is a way in."""
    paths = (CHAT, "/_engine/" + mallory.target.model + CHAT)

    async def one(number: int) -> None:
        port = mallory.target.ports[number // 2 % len(mallory.target.ports)]
        key = mallory.target.bound_key
        await mallory.ask(
            mallory.post(paths[number % 2], mallory.chat(), key=key, headers=FORGED), port=port, patience=3
        )

    if mallory.target.ports:
        await mallory.steadily(one, rate=20, at_most=20)


async def side_pages(mallory: Mallory) -> None:
    """What those ports tell without a key; what metrics there are is for the platform and is no secret on loopback."""
    paths = (
        "/",
        "/-/routes",
        "/-/healthz",
        "/stats",
        "/v1/models",
        "/docs",
        "/api/version",
        "/nodes",
        "/api/jobs/",
        "/;csv",
    )

    async def one(number: int) -> None:
        port = mallory.target.ports[number // len(paths) % len(mallory.target.ports)]
        data = mallory.request("GET", paths[number % len(paths)], key=None)
        await mallory.ask(data, port=port, patience=3)

    if mallory.target.ports:
        await mallory.steadily(one, rate=60, at_most=40)


async def garbage_to_ports(mallory: Mallory) -> None:
    """Ray's own protocols get noise."""

    async def one(number: int) -> None:
        port = mallory.target.ports[number % len(mallory.target.ports)]
        await mallory.ask(
            (b"\x00\xff" * 2000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 90)[number % 2], port=port, patience=2
        )

    if mallory.target.ports:
        await mallory.steadily(one, rate=40, at_most=40)


def our_names(m: Mallory, n: int) -> bytes:
    """Headers by which the gateway speaks to its engines, from outside."""
    names = (
        "x-clinserve-secret",
        "x-request-id",
        "x-clinserve-engine",
        "x-serve-replica",
        "serve_multiplexed_model_id",
        "x-tenant-id",
        "x-session-id",
    )
    headers = {name: f"{m.target.canary}" for name in names}
    paths = (
        f"/_engine/{m.target.model}{CHAT}",
        f"/_engine/{m.target.model}/v1/models",
        "/-/routes",
        f"//_engine/{m.target.model}{CHAT}",
        f"/%5fengine/{m.target.model}{CHAT}",
    )
    path = paths[n % len(paths)]
    return m.post(path, m.chat(), headers=headers) if CHAT in path else m.request("GET", path, headers=headers)


_of = Kind("other doors", gets(400, 401, 403, 404, 405, 413, 429, "closed", "reset", "silent", "unreachable"))
ATTACKS = (
    _of("forged place", "X-Forwarded-For", asking(forged_place, rate=20), gets(401, 403, 429), short=True),
    _of("other ports", "the same at each port that listens", other_ports, _of.gets | gets(415, 501, 503), short=True),
    _of("side pages", "what those ports tell without a key", side_pages, _of.gets | gets(200, 302, 307, 501, 503)),
    _of("noise to ports", "bytes that are no protocol", garbage_to_ports, _of.gets | gets(200)),
    _of("engine paths", "the engines' own paths and headers", asking(our_names, rate=20), short=True),
)
