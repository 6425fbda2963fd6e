"""What a client is told when a request cannot be served: status and body in OpenAI's shape, never its own words."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from serving.protocol.openai import FORBIDDEN
from tests.conftest import OpenSite
from tests.local import RecordingEngine, chat, error_of

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
CANARY = "Zebulon-Quackenbush-19470231"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\0\0\0\0\0\0\0\0IDAT\0\0\0\0"
MP3 = b"\xff\xfb\x90\x00" + b"\0" * 400
MP4 = b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x6cmoov\0\0\0\x64mvhd" + b"\0" * 14 + b"\x03\xe8" + b"\0\0\x03\xe8"


@pytest.mark.parametrize(("path", "body"), [(CHAT, chat()), (COMPLETIONS, {"model": "echo", "prompt": "x"})])
async def test_a_forbidden_field_is_refused_by_name_with_the_reason_and_never_reaches_an_engine(
    site: OpenSite, path: str, body: dict[str, Any]
) -> None:
    engine = RecordingEngine()
    client = site(engine).client()
    for field in FORBIDDEN:
        response = await client.post(path, json=body | {field: {CANARY: CANARY}})
        error = error_of(response, 400, "forbidden_field")
        assert error["param"] == field and field in error["message"]
        assert CANARY not in response.text
    assert len(FORBIDDEN) > 10 and not engine.asked


async def test_an_unknown_field_is_refused_without_repeating_its_name(site: OpenSite) -> None:
    engine = RecordingEngine()
    response = await site(engine).client().post(CHAT, json=chat() | {CANARY: 1})
    assert "unknown" in error_of(response, 400, "invalid_request")["message"]
    assert CANARY not in response.text and not engine.asked


@pytest.mark.parametrize("kind", ["image_url", "audio_url", "video_url"])
async def test_media_at_an_address_is_refused_and_inline_media_is_not(site: OpenSite, kind: str) -> None:
    engine = RecordingEngine()
    client = site(engine).client()
    for link in (f"https://{CANARY}/x", {"url": f"http://{CANARY}"}, {"url": f"file:///{CANARY}"}, None, {}, 5):
        part = {"type": kind, kind: link}
        response = await client.post(CHAT, json=chat(messages=[{"role": "user", "content": [part]}]))
        assert error_of(response, 400, "forbidden_field")["param"] == "messages[0].content[0]"
        assert CANARY not in response.text
    assert not engine.asked
    data = {"image_url": PNG, "audio_url": MP3, "video_url": MP4}[kind]
    inline = {"type": kind, kind: {"url": f"data:x/y;base64,{base64.b64encode(data).decode()}"}}
    assert (await client.post(CHAT, json=chat(messages=[{"role": "user", "content": [inline]}]))).status_code == 200


async def test_what_is_not_json_is_refused(site: OpenSite) -> None:
    client = site().client()
    for body in (
        b"", b"{", b"not json", b'{"model":NaN}', b'{"temperature":Infinity}', b"\xff\xfe",
        b'{"a":"\\ud800"}', b"{}{}", b'{"seed":' + b"9" * 5000 + b"}",
    ):  # fmt: skip
        response = await client.post(CHAT, content=body)
        assert "not valid JSON" in error_of(response, 400, "invalid_request")["message"], body


async def test_json_that_is_no_object_is_refused(site: OpenSite) -> None:
    client = site().client()
    for body in (b"[]", b'["messages"]', b"null", b'"text"', b"5"):
        response = await client.post(CHAT, content=body)
        assert "object" in error_of(response, 400, "invalid_request")["message"], body


async def test_json_counts_whatever_its_content_type_says(site: OpenSite) -> None:
    client = site().client()
    client.headers["content-type"] = "application/x-www-form-urlencoded"  # curl -d
    assert (await client.post(CHAT, json=chat())).status_code == 200


async def test_a_missing_field_is_named(site: OpenSite) -> None:
    client = site().client()
    for body, field in (({"model": "echo"}, "messages"), ({"messages": chat()["messages"]}, "model")):
        error = error_of(await client.post(CHAT, json=body), 400, "invalid_request")
        assert error["param"] == field and f"'{field}' is missing" in error["message"]


WRONG: list[tuple[str, Any]] = [
    ("messages", CANARY), ("messages", [CANARY]), ("messages", []), ("messages", {CANARY: 1}), ("model", [CANARY]),
    ("temperature", CANARY), ("temperature", 3), ("top_p", 0), ("n", 0), ("n", 1.5), ("max_tokens", CANARY),
    ("max_tokens", -1), ("stop", {CANARY: CANARY}), ("stop", [1]), ("stream", CANARY), ("seed", CANARY),
    ("logit_bias", {CANARY: CANARY}), ("logit_bias", {str(i): 0 for i in range(1025)}), ("tools", {CANARY: 1}),
    ("tool_choice", CANARY), ("response_format", CANARY), ("response_format", {"type": CANARY}),
    ("tools", [{"type": CANARY}]), ("chat_template_kwargs", [CANARY]), ("stream_options", CANARY),
    ("stop_token_ids", [0] * 65), ("top_logprobs", CANARY),
]  # fmt: skip


async def test_a_value_of_the_wrong_kind_is_refused_by_its_fields_name_without_repeating_it(site: OpenSite) -> None:
    engine = RecordingEngine()
    client = site(engine).client()
    for field, value in WRONG:
        response = await client.post(CHAT, json=chat(**{field: value}))
        assert error_of(response, 400, "invalid_request")["param"] == field, value
        assert CANARY not in response.text
    assert not engine.asked


async def test_a_message_of_the_wrong_shape_is_refused_by_its_place(site: OpenSite) -> None:
    client = site().client()
    contents: list[Any] = [{}, 5, [{"type": CANARY}], [5]]
    for message in [{}, {"role": 5}, *[{"role": "user", "content": content} for content in contents]]:
        response = await client.post(CHAT, json=chat(messages=[message]))
        assert error_of(response, 400, "invalid_request")["param"].startswith("messages[0]."), message
        assert CANARY not in response.text


async def test_without_a_valid_key_nobody_gets_in(site: OpenSite) -> None:
    open_site = site()
    for headers in (
        {"x-nothing": ""}, {"authorization": ""}, {"authorization": "Bearer"}, {"authorization": "Bearer "},
        {"authorization": f"Bearer {CANARY}"}, {"authorization": f"Basic {CANARY}"}, {"api-key": CANARY},
        {"authorization": CANARY}, {"authorization": "Bearer csk_ab12cd34_" + "0" * 38},
    ):  # fmt: skip
        client = open_site.client(**headers)
        for response in (await client.post(CHAT, json=chat()), await client.get("/v1/models")):
            assert "api-key" in error_of(response, 401, "invalid_api_key")["message"]
            assert response.headers["www-authenticate"] == "Bearer"
            assert "retry-after" not in response.headers and CANARY not in response.text
    assert {(line["tenant"], line["outcome"]) for line in open_site.log()} == {("", "invalid_api_key")}


async def test_a_key_is_taken_from_either_header_and_azures_counts_first(site: OpenSite) -> None:
    open_site = site()
    bearer = f"bearer  {open_site.key}"
    for headers, status in [
        ({"api-key": open_site.key}, 200), ({"authorization": bearer}, 200),
        ({"api-key": open_site.key, "authorization": "Bearer wrong"}, 200),
        ({"api-key": "wrong", "authorization": bearer}, 401), ({"api-key": "", "authorization": bearer}, 200),
        ({"authorization": f"Basic {open_site.key}"}, 401), ({"authorization": open_site.key}, 401),
    ]:  # fmt: skip
        assert (await open_site.client(**headers).get("/v1/models")).status_code == status, headers


async def test_an_unknown_deployment_is_404_with_the_nearest_real_name_and_not_the_given(site: OpenSite) -> None:
    client = site().client()
    near = error_of(await client.post(CHAT, json=chat(model="ecko")), 404, "model_not_found")
    assert near["param"] == "model" and "Did you mean 'echo'?" in near["message"] and "ecko" not in near["message"]
    far = error_of(await client.post(CHAT, json=chat(model=CANARY * 8)), 404, "model_not_found")
    assert "Did you mean" not in far["message"] and CANARY not in far["message"]


async def test_an_unknown_path_is_404_in_openais_shape(site: OpenSite) -> None:
    client = site().client()
    for path in ("/", "/v1", f"/v1/{CANARY}", "/v1/models/", "/v1/chat/completions/", "/v1/models/a/b"):
        response = await client.post(path, json=chat())
        assert CANARY not in str(error_of(response, 404, "not_found"))


async def test_a_wrong_method_is_405_in_openais_shape(site: OpenSite) -> None:
    client = site().client()
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "FROBNICATE"):
        error_of(await client.request(method, CHAT), 405, "method_not_allowed")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unexpected_exception_is_500_in_openais_shape_and_its_text_stays_here(
    site: OpenSite, stream: bool
) -> None:
    open_site = site(RecordingEngine((), ValueError(CANARY)))
    response = await open_site.client().post(CHAT, json=chat(stream=stream))
    assert "request id" in error_of(response, 500, "internal_error")["message"]
    broke, line = open_site.log()
    assert (broke["event"], broke["error"]) == ("internal_error", "ValueError")
    assert broke["at"][-1].startswith("local.py:") and broke["at"][-1].endswith(" answer")  # where it came from
    assert broke["request_id"] == line["request_id"] == response.headers["x-request-id"]
    assert (line["outcome"], line["status"]) == ("internal_error", 500)
    assert CANARY not in str(open_site.log()) + response.text


async def test_the_reference_describes_the_bodies_and_every_link_in_it_leads_somewhere(site: OpenSite) -> None:
    reference = (await site().client().get("/openapi.json")).json()
    for path, field in ((CHAT, "messages"), (COMPLETIONS, "prompt")):
        body = reference["paths"][path]["post"]["requestBody"]
        assert body["required"] and field in body["content"]["application/json"]["schema"]["required"]
    for link in links_in(reference):
        node = reference
        for step in link.removeprefix("#/").split("/"):
            node = node[step]


def links_in(value: Any) -> list[str]:
    if isinstance(value, list):
        return [link for item in value for link in links_in(item)]
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [link for item in value.values() for link in links_in(item)]
    return []


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "GZIP", "made-up"])
@pytest.mark.parametrize("path", [CHAT, "/v1/files", "/admin/v1/tenants"])
async def test_a_compressed_body_is_refused_before_it_is_read(site: OpenSite, coding: str, path: str) -> None:
    body = gzip.compress(json.dumps(chat(CANARY)).encode())
    response = await site().client().post(path, content=body, headers={"content-encoding": coding})
    assert "content-encoding" in error_of(response, 415, "unsupported_media_type")["message"]
    assert response.headers["accept-encoding"] == "identity"


async def test_a_body_that_says_it_is_not_compressed_is_read(site: OpenSite) -> None:
    response = await site().client().post(CHAT, json=chat(), headers={"content-encoding": "identity"})
    assert response.status_code == 200
