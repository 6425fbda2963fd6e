"""What an ordinary key allows, done without measure."""

import asyncio
import json
import secrets
from typing import Any

from loadtests.hostile.attack import Kind, asking, gets
from loadtests.hostile.attacks.schemas import CHAT, RESPONSES
from loadtests.hostile.wire import Mallory

MIB = 2**20
REFUSED = gets(400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 429)
TAKEN = REFUSED | gets(200)
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def idempotency_keys(m: Mallory, n: int) -> bytes:
    key = (secrets.token_hex(16), "same", "k" * 7000, "\u00e9", " ", "a,b")[n % 6]
    return m.post(CHAT, m.chat(), headers={"Idempotency-Key": key})


def admin_routes(m: Mallory, n: int) -> bytes:
    paths: tuple[tuple[str, str, Any], ...] = (
        ("GET", "/admin/v1/tenants", None), ("GET", "/admin/v1/keys", None), ("GET", "/admin/v1/audit", None),

        ("POST", "/admin/v1/keys", {"tenant": "ward", "name": "a", "roles": ["operator"]}),
        ("POST", "/admin/v1/tenants", {"id": "a", "name": "a"}),
        ("PATCH", "/admin/v1/tenants/ward", {"keep_responses": 1}),
        ("GET", "/admin/v1/usage", None), ("PUT", "/admin/v1/limits/tenant/ward", {}),
        ("DELETE", "/admin/v1/keys/1", None), ("GET", "/admin/v1/audit?limit=1000", None),
        ("POST", "/admin/v1/keys/1/rotate", {}), ("GET", "/admin/v1/limits", None),
    )  # fmt: skip
    method, path, body = paths[n % len(paths)]
    return m.request(method, path, body)


def others_things(m: Mallory, n: int) -> bytes:
    ids = (
        m.target.foreign,
        f"file-{secrets.token_hex(12)}",
        f"batch_{secrets.token_hex(12)}",
        f"resp_{secrets.token_hex(16)}",
        "../1",
        "%00",
        "a" * 5000,
        "' OR 1=1 --",
    )
    one = ids[n % len(ids)].replace(" ", "%20")
    paths = (
        ("GET", f"/v1/files/{one}"), ("GET", f"/v1/files/{one}/content"), ("DELETE", f"/v1/files/{one}"),
        ("GET", f"/v1/batches/{one}"), ("POST", f"/v1/batches/{one}/cancel"), ("GET", f"/v1/responses/{one}"),
        ("DELETE", f"/v1/responses/{one}"), ("POST", f"/v1/responses/{one}/cancel"),
        ("GET", f"/v1/responses/{one}/input_items"), ("GET", f"/v1/models/{one}"),
    )  # fmt: skip
    method, path = paths[n % len(paths)]
    return m.request(method, path)


def azure_garbage(m: Mallory, n: int) -> bytes:
    name = m.target.model
    paths = (
        f"/openai/deployments/{name}/chat/completions?api-version=" + "9" * 3000,
        f"/openai/deployments/{name}/chat/completions",
        "/openai/deployments//chat/completions?api-version=2024-10-21",
        "/openai/deployments/" + "a/" * 500 + "chat/completions?api-version=2024-10-21",
        f"/openai/deployments/{name}%2f..%2f/chat/completions?api-version=2024-10-21", "/models/info?api-version=x",
        f"/openai/deployments/{name}/extensions/chat/completions?api-version=2024-10-21",
        f"/openai//deployments//{name}//chat//completions?api-version=2024-10-21", "/openai/v1/v1/chat/completions",
        f"/openai/deployments/{name}/chat/completions?api-version=2024-10-21&api-version=1999-01-01",
        "/models/chat/completions?api-version=2024-05-01-preview",
    )  # fmt: skip
    body = (
        m.chat(
            data_sources=[{"type": "azure_search", "parameters": {"endpoint": f"http://127.0.0.1/{m.target.canary}"}}]
        )
        if n % 2
        else m.chat()
    )
    return m.post(
        paths[n % len(paths)],
        body,
        headers={
            "extra-parameters": ("pass-through", "drop", "x" * 5000, "error")[n % 4],
            "azureml-model-deployment": "x",
        },
    )


def background(m: Mallory, n: int) -> bytes:
    return m.post(
        RESPONSES,
        {"model": m.target.model, "input": "word " * 50, "background": True, "store": True, "max_output_tokens": 200},
    )


async def cancel_storm(mallory: Mallory) -> None:
    """Responses in the background, cancelled at once by several, and asked for meanwhile."""

    async def one(number: int) -> None:
        made = await mallory.ask(background(mallory, number))
        if made.outcome == "200":
            id = json.loads(made.body)["id"]
            requests = [
                mallory.post(f"/v1/responses/{id}/cancel", {}),
                mallory.request("GET", f"/v1/responses/{id}"),
            ] * 3
            await asyncio.gather(*(mallory.ask(request) for request in requests))
            await mallory.ask(mallory.request("DELETE", f"/v1/responses/{id}"))

    await mallory.steadily(one, rate=5, at_most=10)


def response_chain(m: Mallory, n: int) -> bytes:
    before = (f"resp_{secrets.token_hex(16)}", "", "a" * 5000, "resp_", 5, ["a"])[n % 6]
    return m.post(
        RESPONSES, {"model": m.target.model, "input": "a", "previous_response_id": before, "max_output_tokens": 16}
    )


def lists_of_all(m: Mallory, n: int) -> bytes:
    queries = (
        "limit=1000",
        "limit=-1",
        "limit=99999999999999999999",
        "after=" + "a" * 99,
        "after=%00",
        "limit=1&limit=2",
        "after=file-0&limit=x",
        "purpose=%ff",
        "order=;drop",
    )
    return m.request("GET", f"{('/v1/files', '/v1/batches', '/v1/models')[n % 3]}?{queries[n % len(queries)]}")


def many_sound(m: Mallory, n: int) -> bytes:
    """Sound requests, many more than one caller should have: the last thing that may hurt others."""
    return m.post(CHAT, m.chat(max_tokens=8))


_of = Kind("with a key", TAKEN)
ATTACKS = (
    _of("idempotency keys", "20 a second, also odd ones", asking(idempotency_keys, rate=20)),
    _of(
        "admin routes",
        "administrators' doors",
        asking(admin_routes, rate=40),
        gets(401, 403, 404, 405, 429),
        short=True,
    ),
    _of("others' things", "files, batches, responses of others", asking(others_things, rate=40), REFUSED, short=True),
    _of("Azure garbage", "versions, paths and data sources that are none", asking(azure_garbage, rate=20)),
    _of("background responses", "20 a second", asking(background, rate=20)),
    _of("cancel storm", "background responses, each cancelled three times", cancel_storm),
    _of("response chains", "after responses that nobody has", asking(response_chain, rate=40)),
    _of("odd lists", "limits and places that are none", asking(lists_of_all, rate=40)),
    _of("many sound requests", "15 a second", asking(many_sound, rate=15)),
)
