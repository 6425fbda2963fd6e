"""What generated requests do not reach: bytes on a real socket that no client sends. Nothing breaks or is told."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import OpenSite
from tests.local import AsOperator, Site, chat, listening

PATH = "/v1/chat/completions"
CANARY = "Zebulon-Quackenbush-19470231"
Answer = tuple[int, dict[str, str], bytes]
Send = Callable[[bytes], Answer]


@pytest.fixture
def place(site: OpenSite) -> Site:
    return site(server={"max_body": 65536})


@pytest.fixture
def send(place: Site, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[Send]:
    """Send these bytes to the server; its answer. Afterwards nothing may have broken or told of the canary."""
    with listening(place.app) as url:
        yield lambda data: exchanged(urlsplit(url).port or 0, data)
        with httpx.Client(base_url=url, auth=AsOperator(place)) as client:
            metrics = client.get("/metrics").text
    printed = capfd.readouterr()
    assert CANARY not in f"{metrics}{printed}{caplog.text}{place.log()}"
    assert not [line for line in place.log() if line["event"] == "internal_error"]


def exchanged(port: int, data: bytes) -> Answer:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(data)
        with wire.makefile("rb") as file:
            status = int(file.readline().split()[1])
            headers = {}
            while line := file.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            return status, headers, file.read(0 if data.startswith(b"HEAD") else int(headers.get("content-length", 0)))


def request(
    place: Site, method: str, path: str, body: bytes | None = None, *, headers: bytes = b"", key: bytes | None = None
) -> bytes:
    credential = f"authorization: Bearer {place.key}\r\n".encode() if key is None else key
    length = b"" if body is None else b"content-length: %d\r\n" % len(body)
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\n".encode() + credential + headers + length + b"\r\n" + (body or b"")


def said(content: str = '"a"', more: str = "") -> bytes:
    """A chat request, written by hand."""
    return f'{{"model":"echo","messages":[{{"role":"user","content":{content}}}]{more}}}'.encode()


ENDLESS = "9" * 400
NUMBERS = [
    "seed", "top_k", "n", "max_tokens", "max_completion_tokens", "min_tokens", "top_logprobs", "prompt_logprobs",
    "temperature", "top_p", "min_p", "presence_penalty", "repetition_penalty", "length_penalty",
]  # fmt: skip


def test_numbers_without_end_are_refused_by_name_or_taken(place: Site, send: Send) -> None:
    for name, value in itertools.product(
        NUMBERS, [ENDLESS, f"-{ENDLESS}", "1e999", "-1e999", "1e-999", "-0", str(2**63)]
    ):
        status, _, body = send(request(place, "POST", PATH, said(more=f',"{name}":{value}')))
        assert status == 200 or (status == 400 and name in json.loads(body)["error"]["message"]), (name, body)


def test_token_ids_that_no_model_has_are_refused(place: Site, send: Send) -> None:
    wrong = ("[-1]", f"[{ENDLESS}]", f"[[1],[{2**31}]]", "[1.5]", "[true]", "[null]", "[]", "{}")
    for tokens, (path, field) in itertools.product(wrong, [("/v1/completions", "prompt"), ("/v1/embeddings", "input")]):
        status, _, body = send(request(place, "POST", path, f'{{"model":"echo","{field}":{tokens}}}'.encode()))
        assert (status, json.loads(body)["error"]["param"]) == (400, field), tokens


ODD: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"tools": [{"type": "function", "function": CANARY}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": {CANARY: 1}}}], "tool_choice": "required"}, "tools"),
    ({"tools": [{"type": [CANARY]}]}, "tools"),
    ({"tool_choice": {"function": None}}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": [CANARY]}}}, "tool_choice"),
    ({"response_format": {"type": [CANARY]}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": CANARY}}, "response_format"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": {CANARY: 1}}]}]},
        "messages[0].content[0].text",
    ),
]


def test_objects_of_the_wrong_shape_are_refused_by_their_place(place: Site, send: Send) -> None:
    for fields, param in ODD:
        status, _, body = send(request(place, "POST", PATH, json.dumps(chat(**fields)).encode()))
        assert (status, json.loads(body)["error"]["param"]) == (400, param), fields
        assert CANARY.encode() not in body


def test_schemas_that_ask_for_more_than_there_is_are_answered_at_once(place: Site, send: Send) -> None:
    wide: Any = {"type": "integer", "minimum": 1}
    for _ in range(8):
        wide = {"type": "array", "minItems": 64, "items": wide}
    again = {"properties": {name: {"$ref": "#"} for name in "abcdefgh"}}
    for schema in (wide, again, {"allOf": [{"$ref": "#"}] * 8}, {"type": "string", "minLength": 10**9}):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        status, _, body = send(request(place, "POST", PATH, json.dumps(chat(response_format=form)).encode()))
        refusals = ("context_length_exceeded", "invalid_request")
        assert status == 200 or json.loads(body)["error"]["code"] in refusals, body
    for bound in ("1e999", "-1e999", ENDLESS):
        schema = f'{{"type":"integer","minimum":{bound},"maximum":{bound}}}'
        form = f',"response_format":{{"type":"json_schema","json_schema":{{"schema":{schema}}}}}'
        assert send(request(place, "POST", PATH, said(more=form)))[0] == 400  # no engine can read it


BODIES = {
    "deep": (said("[" * 9000 + "]" * 9000), 400),
    "deep, below what is looked at": (said('"a"', ',"tool_choice":' + '{"a":' * 150 + "1" + "}" * 150), 400),
    "not utf-8": (b'{"model":"echo","messages":[{"role":"user","content":"\xff\xfe' + CANARY.encode() + b'"}]}', 400),
    "half a pair": (said('"\\ud800"'), 400),
    "a mark before it": (b"\xef\xbb\xbf" + said(), 400),
    "utf-16": (said().decode().encode("utf-16"), 400),
    "compressed": (b"\x1f\x8b" + said(), 400),
    "twice": (said() * 2, 400),
    "NUL": (said('"\\u0000"'), 200),
    "NUL in a name": (said(more=f',"{CANARY}\\u0000":1'), 400),
    "the same name twice: the last counts": (b'{"model":"' + CANARY.encode() + b'",' + said()[1:], 200),
}


def test_a_body_that_is_no_json_is_refused_and_one_that_is_odd_is_taken(place: Site, send: Send) -> None:
    for name, (body, status) in BODIES.items():
        answer = send(request(place, "POST", PATH, body))
        assert answer[0] == status, (name, answer)
        assert status == 200 or CANARY.encode() not in answer[2]


def test_the_content_type_of_json_makes_no_difference(place: Site, send: Send) -> None:
    for kind in (
        b"text/xml",
        b"\xff;;;=",
        b"application/json; charset=utf-16",
        b"multipart/form-data; boundary=x",
        b"",
    ):
        assert send(request(place, "POST", PATH, said(), headers=b"content-type: %s\r\n" % kind))[0] == 200


UPLOADS = [
    (b"application/json", b"{}"),
    (b"multipart/form-data", b"--x\r\n"),
    (b"multipart/form-data; boundary=\xff\xfe", b"--x\r\n"),
    (b"multipart/form-data; boundary=x", CANARY.encode()),
    (b"multipart/form-data; boundary=x", b"--x\r\n" + CANARY.encode()),
    (
        b"multipart/form-data; boundary=x",
        b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\n' + CANARY.encode(),
    ),
]


def test_an_upload_that_is_not_valid_is_refused_and_none_of_it_is_logged(
    place: Site, send: Send, capfd: pytest.CaptureFixture[str]
) -> None:
    for kind, body in UPLOADS:
        answer = send(request(place, "POST", "/v1/files", body, headers=b"content-type: %s\r\n" % kind))
        assert answer[0] == 400 and CANARY.encode() not in answer[2]
    assert capfd.readouterr().err == ""


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def test_a_body_in_pieces_counts_as_a_whole(place: Site, send: Send) -> None:
    how = b"transfer-encoding: chunked\r\n"
    for pieces in ([said()], [said()[at : at + 1] for at in range(len(said()))]):
        assert send(request(place, "POST", PATH, headers=how) + chunked(*pieces))[0] == 200
    assert send(request(place, "POST", PATH, headers=how) + chunked(b" " * 40000, b" " * 40000))[0] == 413


NO_HTTP = [
    b"transfer-encoding: chunked\r\ncontent-length: 3\r\n",
    b"content-length: 3\r\ncontent-length: 4\r\n",
    b"content-length: -3\r\n",
    b"content-length: 99999999999999999999999\r\n",
    b"no colon " + CANARY.encode() + b"\r\n",
]


def test_what_is_no_http_is_refused_by_the_server_itself(place: Site, send: Send) -> None:
    for headers in NO_HTTP:
        status, _, body = send(request(place, "POST", PATH, headers=headers))
        assert status == 400 and CANARY.encode() not in body


CREDENTIALS = [
    b"authorization: Bearer \xff\xfe", b"authorization: Bearer a." + CANARY.encode() + b".c",
    b"authorization: Basic x", b"authorization: Bearer ", b"authorization: Bearer csk_\xb2",
    b"api-key: \xc3\xa9", b"api-key: csk_" + b"a" * 20000,
]  # fmt: skip


def test_garbage_for_a_credential_is_401(place: Site, send: Send) -> None:
    for key in CREDENTIALS:
        status, headers, body = send(request(place, "POST", PATH, said(), key=key + b"\r\n"))
        assert status == 401 and headers["www-authenticate"] == "Bearer" and CANARY.encode() not in body


def test_garbage_in_other_headers_changes_nothing(place: Site, send: Send) -> None:
    rubbish = b"\xff, ," + CANARY.encode()
    for name in (
        b"x-forwarded-for",
        b"x-ms-spillover-deployment",
        b"x-request-id",
        b"accept",
        b"x-ms-client-request-id",
    ):
        status, headers, _ = send(request(place, "POST", PATH, said(), headers=b"%s: %s\r\n" % (name, rubbish)))
        assert status == 200 and CANARY not in str(headers), name


PATHS = [
    ("//v1///chat//completions", 200, None),
    ("/v1/chat/completions/", 404, "not_found"),
    ("/v1/../v1/chat/completions", 404, "not_found"),
    ("/v1/chat%2Fcompletions", 200, None),  # the server decodes before it looks
    ("/openai/deployments/%65cho/chat/completions?api-version=2024-10-21", 200, None),
    ("/openai/deployments/my%20dep%2Fx/chat/completions?api-version=2024-10-21", 404, "DeploymentNotFound"),
    ("/openai/v1/deployments/my%20dep%2Fx/chat/completions", 404, "DeploymentNotFound"),
    ("/openai/deployments/%ff%00/chat/completions?api-version=2024-10-21", 404, "DeploymentNotFound"),
    (f"/openai/deployments/{CANARY}/chat/completions?api-version=2024-10-21", 404, "DeploymentNotFound"),
]


def test_paths_as_clients_build_and_encode_them(place: Site, send: Send) -> None:
    for path, status, code in PATHS:
        answer = send(request(place, "POST", path, said()))
        assert answer[0] == status and CANARY.encode() not in answer[2], (path, answer)
        assert code is None or json.loads(answer[2])["error"]["code"] == code


def test_other_methods_are_told_what_there_is(place: Site, send: Send) -> None:
    for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "GET"):
        status, headers, _ = send(request(place, method, PATH))
        assert (status, headers["allow"]) == (405, "POST"), method


def test_a_query_that_is_not_valid_is_refused_by_the_parameters_name(place: Site, send: Send) -> None:
    queries = {"limit": CANARY, "order": CANARY, "purpose": "%00", "after": "%00"}
    for name, value in queries.items():
        status, _, body = send(request(place, "GET", f"/v1/files?{name}={value}"))
        assert (status, json.loads(body)["error"]["param"]) == (400, name)
        assert CANARY.encode() not in body
