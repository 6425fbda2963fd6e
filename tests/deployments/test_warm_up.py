"""What a replica has answered before it counts as running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import settings as config
from serving.deployments.model_replica import WarmUpFailed, warm_up

ROOT = Path(__file__).parents[2]


def deployment(**args: Any) -> config.Deployment:
    engine = {"kind": "vllm", "device": "cpu", "args": args}
    given = {"name": "big", "engine": engine, "model": {"source": str(ROOT / "deploy/demo_model/clinical-demo")}}
    return config.parse({"deployments": [given]}).deployments[0]


async def asked_of(deployment: config.Deployment, status: int = 200) -> list[tuple[str, dict[str, Any]]]:
    """Paths and bodies of the requests that warm up an engine which answers with this status."""
    asked = []

    async def answer(request: Request) -> Response:
        asked.append((request.url.path, await request.json()))
        return Response(status_code=status)

    await warm_up(Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])]), deployment)
    return asked


async def test_a_chat_model_has_answered_greedily_and_sampled_for_one_row_and_for_several() -> None:
    asked = await asked_of(deployment())
    assert {path for path, _ in asked} == {"/v1/completions"}
    bodies = [body for _, body in asked]
    sampled = [body.get("n", 1) for body in bodies if body.get("temperature") and body["top_p"] and body["logprobs"]]
    assert sampled == [1, 2] and any("temperature" not in body for body in bodies)


async def test_an_embedding_model_has_embedded() -> None:
    assert [path for path, _ in await asked_of(deployment(runner="pooling"))] == ["/v1/embeddings"]


async def test_an_engine_that_cannot_answer_takes_no_requests() -> None:
    with pytest.raises(WarmUpFailed, match=r"'big'.*500"):
        await asked_of(deployment(), status=500)
