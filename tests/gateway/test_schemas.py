"""What a JSON schema may cost, wherever it comes in: an engine sees none that is dear, or that it would not keep to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import OpenSite
from tests.local import RecordingEngine, Tree, chat, error_of

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
AZURE = "/openai/deployments/echo/chat/completions?api-version=2024-10-21"
SECRET = "Mrs-Smith"
DEAR = {"type": "string", "pattern": "^[a-z]{1,50000}$"}


def asked(schema: Any) -> Tree:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def of(schema: Any) -> Tree:
    return chat(response_format=asked(schema))


def tool(schema: Any, **fields: Any) -> Tree:
    return {"type": "function", "function": {"name": "note", "parameters": schema, **fields}}


def responses(**fields: Any) -> Tree:
    return {"model": "echo", "input": "hello", **fields}


def properties(**schemas: Any) -> Tree:
    return {"type": "object", "properties": schemas, "required": list(schemas), "additionalProperties": False}


def text(pattern: str) -> Tree:
    return {"type": "string", "pattern": pattern}


WAYS_IN = {
    "chat": (CHAT, of(DEAR), "response_format"),
    "azure": (AZURE, of(DEAR), "response_format"),
    "inference": ("/models/chat/completions?api-version=2024-05-01-preview", of(DEAR), "response_format"),
    "completions": (
        "/v1/completions", {"model": "echo", "prompt": "x", "response_format": asked(DEAR)}, "response_format",
    ),
    "a tool": (CHAT, chat(tools=[tool({}), tool(properties(a=DEAR))]), "tools[1]"),
    "a strict tool": (CHAT, chat(tools=[tool(properties(a=DEAR), strict=True)]), "tools[0]"),
    "a tool that must be called": (CHAT, chat(tools=[tool(properties(a=DEAR))], tool_choice="required"), "tools[0]"),
    "text.format": (
        RESPONSES, responses(text={"format": {"type": "json_schema", "name": "a", "schema": DEAR}}), "text.format",
    ),
    "a response's tool": (
        RESPONSES, responses(tools=[{"type": "function", "name": "f", "parameters": properties(a=DEAR)}]), "tools[0]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS_IN)
async def test_a_dear_schema_is_refused_by_its_place_wherever_it_comes_in(site: OpenSite, way: str) -> None:
    path, body, place = WAYS_IN[way]
    engine = RecordingEngine()
    response = await site(engine).client().post(path, json=body)
    assert response.status_code == 400, response.text
    assert place in response.text and "pattern" in response.text
    assert "a-z" not in response.text and not engine.asked


FAMILIES = {
    "a long repetition": text("^[a-z]{1,5000}$"),
    "an exact one": text("^[a-z]{5000}$"),
    "a repetition in repetitions": text("^(([a-z]{1,10}){1,10}){1,10}$"),
    "the same, through stars": text("^(([a-z]*){1,50}){1,50}$"),
    "optional signs in a row": text("^" + "[a-z]?" * 100 + "$"),
    "optional groups in a row": text("^" + "(?:[a-z][0-9])?" * 60 + "$"),
    "nested optional groups that repeat": text("^" + "(" * 12 + "a" + "){0,9}" * 12 + "$"),
    "nested groups without end": text("(" * 100 + "a" + ")" * 100),
    "many alternatives that repeat": text("^(" + "|".join("abcdefgh") + "){0,300}$"),
    "a long pattern": text("a" * 5000),
    "many patterns": properties(**{f"p{i}": text(f"^[a-z]{{1,{100 + i}}}$") for i in range(60)}),
    "the same pattern by names": {"type": "object", "patternProperties": {"^[a-z]{1,5000}$": {}}},
    "a pattern for names": {"type": "object", "propertyNames": text("^[a-z]{1,5000}$")},
    "one behind a reference": {"$defs": {"a": DEAR}, "$ref": "#/$defs/a"},
    "one that nothing refers to": {"$defs": {"a": DEAR}, "type": "string"},
    "one in a list of alternatives": {"anyOf": [{"type": "null"}, {"type": "array", "items": DEAR}]},
    "one in a condition": {"type": "object", "additionalProperties": DEAR},
    "a pattern of another type": {"type": ["string", "null"], "pattern": "^[a-z]{1,5000}$"},
    "a pattern without a type": {"pattern": "^[a-z]{1,5000}$"},
    "many different lengths": properties(**{f"p{i}": {"type": "string", "maxLength": 300 + i} for i in range(100)}),
    "a length beyond measure": {"type": "string", "minLength": 2**40},
    "items beyond measure": {"type": "array", "items": {}, "minItems": 10**9},
    "properties beyond measure": {"type": "object", "minProperties": 10**9},
    "properties to be counted": {"maxProperties": 9, "properties": {f"p{i}": {} for i in range(99)}},
    "optional properties": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(300)}},
    "properties": properties(**{f"p{i}": {"type": "string"} for i in range(1001)}),
    "an enum": {"enum": list(range(2001))},
    "alternatives": {"anyOf": [{"const": i} for i in range(300)]},
    "one of many": {"oneOf": [{"const": i} for i in range(300)]},
    "a long tuple": {"type": "array", "prefixItems": [{"const": i} for i in range(300)]},
    "multiples": properties(**{f"p{i}": {"type": "integer", "multipleOf": 800 + i} for i in range(200)}),
    "ranges": properties(**{f"p{i}": {"type": "integer", "minimum": i, "maximum": 2**60} for i in range(200)}),
    "formats": properties(**{f"p{i}": {"type": "string", "format": "ipv6"} for i in range(300)}),
    "a bomb of types": {"type": "array", "items": {"anyOf": [{"items": {"anyOf": [{}] * 200}}, {"anyOf": [{}] * 200}]}},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
async def test_every_family_of_dear_schemas_is_refused(site: OpenSite, family: str) -> None:
    engine = RecordingEngine()
    error = error_of(await site(engine).client().post(CHAT, json=of(FAMILIES[family])), 400, "invalid_request")
    assert error["param"] == "response_format" and not engine.asked


ORDINARY = {
    "a date": text(r"^\d{4}-\d{2}-\d{2}$"),
    "FHIR's dateTime": text(
        r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1])"
        r"(T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?"
    ),
    "FHIR's id": text(r"^[A-Za-z0-9\-\.]{1,64}$"),
    "FHIR's oid": text(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+"),
    "FHIR's base64": text(r"(\s*([0-9a-zA-Z\+\/=]){4}\s*)+"),
    "ICD-10": text(r"^[A-TV-Z][0-9][0-9AB](\.[0-9A-TV-Z]{1,4})?$"),
    "LOINC": text(r"^\d{1,7}-\d$"),
    "SNOMED CT": text(r"^[1-9]\d{5,17}$"),
    "an e-mail address": text(r"^[\w.+-]+@[\w-]+\.[\w.]+$"),
    "a line": text(r"^[^\r\n]{1,400}$"),
    "lengths": properties(**{f"p{i}": {"type": "string", "maxLength": 2000} for i in range(100)}),
    "formats": properties(at={"type": "string", "format": "date-time"}, id={"type": "string", "format": "uuid"}),
    "pydantic's optional": properties(a={"anyOf": [{"type": "string", "maxLength": 50}, {"type": "null"}]}),
    "pydantic's reference": {"$defs": {"A": {"type": "object"}}, "allOf": [{"$ref": "#/$defs/A"}]},
    "draft 7's definitions": {"definitions": {"A": {"type": "string"}}, "$ref": "#/definitions/A"},
    "a tree": {"$ref": "#/$defs/n", "$defs": {"n": properties(below={"items": {"$ref": "#/$defs/n"}})}},
    "itself": properties(next={"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
    "zod's schema": {"$schema": "http://json-schema.org/draft-07/schema#", **properties(a={"type": "string"})},
    "properties with keywords for names": properties(pattern={"type": "string"}, **{"$ref": {}, "id": {}, "enum": {}}),
    "data that looks like a schema": {"const": {"$ref": "https://example.org", "pattern": "("}},
    "everything": {},
}  # fmt: skip


@pytest.mark.parametrize("kind", ORDINARY)
async def test_ordinary_schemas_go_through_as_they_are(site: OpenSite, kind: str) -> None:
    engine = RecordingEngine()
    response = await site(engine).client().post(CHAT, json=of(ORDINARY[kind]))
    assert response.status_code == 200, response.text
    assert engine.asked[0].body["response_format"] == asked(ORDINARY[kind])


OUTSIDE = {
    "a file": {"$ref": f"file:///{SECRET}"},
    "an address": {"$ref": f"https://example.org/{SECRET}"},
    "a relative address": {"$ref": f"{SECRET}.json#/a"},
    "an anchor": {"$defs": {"a": {"type": "string"}}, "$ref": f"#{SECRET}"},
    "what is not there": {"$ref": f"#/$defs/{SECRET}"},
    "what is no schema": {"default": {SECRET: {}}, "$ref": f"#/default/{SECRET}"},
    "a reference that is no text": {"$ref": {SECRET: 1}},
    "a circle": {"$defs": {SECRET: {"$ref": "#/$defs/b"}, "b": {"$ref": f"#/$defs/{SECRET}"}}, "$ref": "#/$defs/b"},
    "an id": {"$id": f"https://example.org/{SECRET}", "type": "string"},
    "an id within": properties(a={"$id": f"urn:{SECRET}", "type": "string"}),
    "draft 4's id": {"id": f"https://example.org/{SECRET}", "type": "string"},
    "a named anchor": {"$anchor": SECRET, "type": "string"},
    "a dynamic reference": {"$dynamicRef": f"#{SECRET}"},
    "a dynamic anchor": {"$dynamicAnchor": SECRET},
    "a recursive reference": {"$recursiveRef": "#"},
    "a vocabulary": {"$vocabulary": {f"https://{SECRET}": True}},
    "a schema's schema": {"$schema": f"https://{SECRET}", "type": "string"},
    "a pattern that looks ahead": text(f"^(?={SECRET})[a-z]+$"),
    "a pattern that looks behind": text(f"^(?<!{SECRET})[a-z]+$"),
    "a pattern with an anchor within": text(f"^a$|^{SECRET}$"),
    "a pattern with an unknown escape": text(rf"^{SECRET}\q$"),
    "a pattern that goes back": text(rf"^({SECRET})\1$"),
    "a pattern with flags": text(f"(?i){SECRET}"),
    "a pattern that is none": text(f"({SECRET}"),
    "a format": {"type": "string", "format": SECRET},
    "a type": {"type": "object", "properties": SECRET},
    "a list": {"anyOf": {SECRET: 1}},
    "a schema that is none": properties(a=SECRET),
}  # fmt: skip


@pytest.mark.parametrize("kind", OUTSIDE)
async def test_what_an_engine_would_print_or_look_for_elsewhere_is_refused_without_its_text(
    site: OpenSite, kind: str
) -> None:
    engine = RecordingEngine()
    response = await site(engine).client().post(CHAT, json=of(OUTSIDE[kind]))
    error = error_of(response, 400, "invalid_request")
    assert error["param"] == "response_format" and SECRET not in response.text and not engine.asked


NOT_KEPT = {
    "a pattern and a length": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
    "the same of several types": {"type": ["string", "null"], "pattern": "^[a-z]+$", "minLength": 3},
    "the same without a type": {"pattern": "^[a-z]+$", "maxLength": 3},
    "a format and a length": {"type": "string", "format": "date", "maxLength": 3},
    "not": {"not": {"type": "string"}},
    "conditions": {"if": {"type": "string"}, "then": {"maxLength": 3}},
    "several at once": {"allOf": [{"type": "string"}, {"maxLength": 3}]},
    "items that differ": {"type": "array", "uniqueItems": True},
    "what is contained": {"type": "array", "contains": {"type": "string"}},
    "what depends": {"type": "object", "dependentRequired": {"a": ["b"]}},
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_KEPT)
async def test_what_the_engine_takes_no_notice_of_is_refused_and_never_broken_in_silence(
    site: OpenSite, kind: str
) -> None:
    engine = RecordingEngine()
    client = site(engine).client()
    for body in (of(NOT_KEPT[kind]), chat(tools=[tool(properties(a=NOT_KEPT[kind]), strict=True)])):
        assert "not supported" in error_of(await client.post(CHAT, json=body), 400, "invalid_request")["message"]
    assert not engine.asked
    # Without `strict` nothing is held to the parameters: they only tell the model what is wanted.
    assert (await client.post(CHAT, json=chat(tools=[tool(properties(a=NOT_KEPT[kind]))]))).status_code == 200


async def test_a_tool_that_must_be_called_is_one_of_the_tools(site: OpenSite) -> None:
    client = site(RecordingEngine()).client()
    for tools in ([], [tool({})]):
        choice = {"type": "function", "function": {"name": SECRET}}
        response = await client.post(CHAT, json=chat(tools=tools, tool_choice=choice))
        error = error_of(response, 400, "invalid_request")
        assert error["param"] == "tool_choice" and SECRET not in response.text


async def test_a_place_is_told_by_keywords_and_numbers(site: OpenSite) -> None:
    schema = properties(first={}, **{SECRET: {"type": "array", "items": {"anyOf": [{}, DEAR]}}})
    error = error_of(await site().client().post(CHAT, json=of(schema)), 400, "invalid_request")
    assert error["message"].startswith("response_format: at properties[1].items.anyOf[1].pattern: this makes")


async def test_the_schemas_of_a_request_count_together(site: OpenSite) -> None:
    half = properties(**{f"p{i}": text(f"^[a-z]{{1,{100 + i}}}$") for i in range(10)})
    client = site(limits={"schemas": {"total": 9000}}).client()
    assert (await client.post(CHAT, json=chat(tools=[tool(half)]))).status_code == 200
    error = error_of(await client.post(CHAT, json=chat(tools=[tool(half)] * 2)), 400, "invalid_request")
    assert "states" in error["message"] and error["message"].startswith("tools[1]")
    padded = [tool({"description": "x" * 4000})] * 3
    assert "together" in error_of(await client.post(CHAT, json=chat(tools=padded)), 400, "invalid_request")["message"]


LIMITS: list[tuple[str, int, Tree, Tree]] = [
    ("subschemas", 2, properties(a={}), properties(a={}, b={})),
    ("states", 7, text("a{4}"), text("a{5}")),
    ("pattern_length", 4, text("a{4}"), text("aa{4}")),
    ("pattern_states", 7, text("a{4}"), text("a{5}")),
    ("properties", 1, properties(a={}), properties(a={}, b={})),
    ("optional", 1, {"properties": {"a": {}}}, {"properties": {"a": {}, "b": {}}}),
    ("alternatives", 2, {"anyOf": [{}, {}]}, {"anyOf": [{}, {}, {}]}),
    ("enum_values", 2, {"enum": [1, 2]}, {"enum": [1, 2, 3]}),
    ("length", 5, {"maxLength": 5}, {"maxLength": 6}),
    ("items", 5, {"maxItems": 5}, {"maxItems": 6}),
]


@pytest.mark.parametrize(("name", "most", "within", "beyond"), LIMITS, ids=[limit[0] for limit in LIMITS])
async def test_each_limit_is_what_the_settings_say(
    site: OpenSite, name: str, most: int, within: Tree, beyond: Tree
) -> None:
    client = site(limits={"schemas": {name: most}}).client()
    assert (await client.post(CHAT, json=of(within))).status_code == 200
    error_of(await client.post(CHAT, json=of(beyond)), 400, "invalid_request")
