"""Whatever a field holds, the answer is one of ours: never a 500, and never a word of what was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.gateway.admin.keys import NewKey, Rotation
from serving.gateway.admin.limits import LimitsBody
from serving.gateway.admin.tenants import NewTenant, TenantChanges
from serving.gateway.batches import BatchRequest
from serving.protocol.openai import ChatRequest, CompletionRequest, EmbeddingsRequest
from serving.protocol.responses.request import ResponsesRequest
from tests.conftest import OpenSite
from tests.gateway.administrators import hospital
from tests.local import chat

CANARY = "Zebulon19470231"
_DEEP = "[" * 60 + "1" + "]" * 60
ODD = [
    "true", "false", "0", "-0", "-0.0", "-1", "1e308", "1e400", "-1e400", "1e-400", "9" * 4000, "1" * 25, str(2**63),
    str(-(2**63) - 1), "0.1", '""', f'"{CANARY}"', '"\\u0000"', f'"\\u0000{CANARY}\\n"', '"' + "x" * 5000 + '"', '"5"',
    '"\\ud83d\\ude00"', "[]", "{}", "[null]", '[1, "a", null, [], {}, true]', f'["{CANARY}"]', f'{{"{CANARY}": 1}}',
    _DEEP,
    '{"type": null}', '{"type": "function"}', '{"type": "function", "function": null}', f'[{{"type": "{CANARY}"}}]',
    '[{"type": "function", "function": {"name": 5}}]', '[{"role": "user", "content": [null]}]', '[{"role": null}]',
    '[{"role": "assistant", "tool_calls": [null]}]', '[{"role": "assistant", "tool_calls": [{"function": {}}]}]',
    '[{"role": "user", "content": {"type": "text"}}]', '[{"role": "tool", "tool_call_id": 5, "content": "x"}]',
    '[{"type": "item_reference", "id": null}]', '[{"type": "item_reference", "id": "\\u0000"}]', '[{"id": 5}]',
    '[{"type": "function_call_output", "call_id": "c", "output": {}}]', '[{"type": "reasoning", "summary": 5}]',
    '[{"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": 5}]}]', '{"format": 5}',
    '{"format": {"type": "json_schema", "schema": {"$ref": "#"}}}', '{"type": "allowed_tools", "tools": [5]}',
    '{"type": "json_schema", "json_schema": {"name": 5, "schema": {}}}', '{"effort": "high"}', '{"effort": 5}',
    '{"include_usage": 7}', '{"1": 1e400}', '{"1": true}', '{"a": "b"}', '{"seconds": 1e400}', '{"anchor": 5}',
]  # fmt: skip
BODIES: list[tuple[str, str, type[Any], dict[str, Any]]] = [
    ("POST", "/v1/chat/completions", ChatRequest, chat()),
    ("POST", "/v1/completions", CompletionRequest, {"model": "echo", "prompt": "x"}),
    ("POST", "/v1/embeddings", EmbeddingsRequest, {"model": "echo", "input": "x"}),
    ("POST", "/v1/responses", ResponsesRequest, {"model": "echo", "input": "x"}),
    ("POST", "/openai/responses?api-version=2025-04-01-preview", ResponsesRequest, {"model": "echo", "input": "x"}),
    ("POST", "/models/chat/completions?api-version=2024-05-01-preview", ChatRequest, chat()),
    ("POST", "/v1/batches", BatchRequest, {"input_file_id": "file-1", "endpoint": "/x", "completion_window": "24h"}),
    ("POST", "/admin/v1/tenants", NewTenant, {"id": "new", "name": "New"}),
    ("PATCH", "/admin/v1/tenants/lab", TenantChanges, {"keep_responses": None}),
    ("POST", "/admin/v1/keys", NewKey, {"tenant": "lab", "name": "odd"}),
    ("POST", "/admin/v1/keys/nobody/rotate", Rotation, {}),
    ("PUT", "/admin/v1/limits/tenant/lab", LimitsBody, {}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "model", "body"), BODIES, ids=[one[1].partition("?")[0] for one in BODIES])
async def test_no_value_of_a_field_is_a_failure_of_ours(
    site: OpenSite, method: str, path: str, model: Any, body: dict[str, Any]
) -> None:
    place = hospital(site)
    client = place.site.client(authorization=f"Bearer {place.keys['root']}")
    for field in [*model.model_fields, CANARY]:
        rest = json.dumps({name: value for name, value in body.items() if name != field})[1:-1]
        for odd in ODD:
            text = f'{{"{field}": {odd}{", " * bool(rest)}{rest}}}'
            response = await client.request(method, path, content=text)
            assert response.status_code < 500, (field, odd[:80], response.text)
            if response.status_code >= 400 and field not in ("id", "name", "tenant"):
                assert CANARY not in response.text, (field, odd[:80])
