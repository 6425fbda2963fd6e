"""JSON schemas that cost an engine seconds to make a grammar of, through every door that takes a schema.

Each request differs from the last, so that no cache of refusals or grammars helps.
"""

from collections.abc import Callable
from typing import Any

from loadtests.hostile.attack import Kind, Run, asking, gets
from loadtests.hostile.attacks import schemas
from loadtests.hostile.attacks.filing import run_batch
from loadtests.hostile.wire import Mallory

REFUSED = gets(400, 413, 429)
TAKEN = REFUSED | gets(200)
BATCH = TAKEN | gets("lines done", "lines refused")


def by_chat(schema: Callable[[int], Any], path: str = schemas.CHAT, **fields: Any) -> Run:
    return asking(lambda m, n: m.post(path, m.chat(response_format=schemas.format_of(schema(n)), **fields)))


def elsewhere(m: Mallory, n: int) -> Any:
    """Schemas at other addresses, which a grammar compiler writes to its log. The address holds a patient's name."""
    text = f"{m.target.canary}-{n}"
    odd = (
        {"$ref": f"http://127.0.0.1/{text}"}, {"$ref": f"{text}.json"}, {"$id": f"https://example.org/{text}"},
        {"$ref": f"/{text}"}, {"$ref": f"file:///{text}"}, {"$schema": f"http://{text}/"}, {"$ref": f"urn:{text}"},
        {"$dynamicRef": f"http://{text}#a"}, {"$recursiveRef": text}, {"properties": {"a": {"$ref": f"x#{text}"}}},
        {"items": {"$id": text, "$ref": "#/a"}}, {"$ref": f"#/$defs/{text}"}, {"$ref": f"#{text}"},
        {"type": text}, {"type": "string", "format": text}, {"type": "string", "pattern": f"(?<{text}"}, {text: text},
    )  # fmt: skip
    return m.post(schemas.CHAT, m.chat(response_format=schemas.format_of(odd[n % len(odd)])))


def other_formats(m: Mallory, n: int) -> Any:
    """Grammars that are not asked for by a JSON schema."""
    regex = r"([a-z]{1,9999}){1,9999}"
    odd: tuple[dict[str, Any], ...] = (
        {"response_format": {"type": "regex", "regex": regex}},
        {"response_format": {"type": "grammar", "grammar": 'root ::= root root | "a"'}},
        {"response_format": {"type": "structural_tag", "structures": [], "triggers": []}},
        {"response_format": {"type": "structural_tag", "format": {"type": "regex", "pattern": regex}}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True}}},
        {"response_format": {"type": "json_object", "json_schema": schemas.repeated(n)}},
        {"response_format": {"type": ["json_schema"], "json_schema": {}}},
        {"response_format": {"type": "text", "json_schema": {"schema": schemas.repeated(n)}}},
        {"response_format": schemas.repeated(n)}, {"response_format": [schemas.repeated(n)]},
        {"response_format": "json_schema"},
        {"structured_outputs": {"regex": regex}}, {"guided_regex": regex}, {"guided_grammar": 'root ::= "a"'},
        {"guided_json": schemas.repeated(n)}, {"guided_choice": ["a"] * 9999}, {"structural_tag": "{}"},
        {"guided_decoding_backend": "outlines"}, {"structured_outputs": {"backend": "guidance", "json": "{}"}},
        {"vllm_xargs": {"regex": regex}}, {"tool_choice": {"type": "function", "function": {"name": regex}}},
    )  # fmt: skip
    return m.post(schemas.CHAT, m.chat(**odd[n % len(odd)]))


def tool(schema: Any, name: str = "look_up") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "strict": True, "parameters": schema}}


def by_tools(m: Mallory, n: int) -> Any:
    kinds = (schemas.repeated, schemas.product, schemas.optional_properties, schemas.many_items)
    choice = ("required", {"type": "function", "function": {"name": "look_up"}}, "auto")[n % 3]
    return m.post(schemas.CHAT, m.chat(tools=[tool(schemas.fields(a=kinds[n % len(kinds)](n)))], tool_choice=choice))


def many_tools(m: Mallory, n: int) -> Any:
    """Each is cheap; there are many."""
    tools = [tool(schemas.fields(a=schemas.text(f"^[a-z]{{1,90}}{n}{i}$")), f"t{i}") for i in range(128)]
    return m.post(schemas.CHAT, m.chat(tools=tools, tool_choice="required"))


def by_responses(m: Mallory, n: int) -> Any:
    schema = (schemas.repeated, schemas.nested_optional, schemas.many_items, schemas.doubled)[n % 4](n)
    body: dict[str, Any] = {"model": m.target.model, "input": m.target.canary, "max_output_tokens": 16}
    if n % 2:
        body |= {
            "text": {"format": {"type": "json_schema", "name": "a", "strict": True, "schema": schemas.fields(a=schema)}}
        }
    else:
        body |= {
            "tools": [{"type": "function", "name": "a", "parameters": schemas.fields(a=schema)}],
            "tool_choice": "required",
        }
    return m.post(schemas.RESPONSES, body)


def by_other_dialects(m: Mallory, n: int) -> Any:
    version = "?api-version=2024-10-21"
    wanted = {
        "response_format": schemas.format_of((schemas.repeated, schemas.optional_properties, schemas.doubled)[n % 3](n))
    }
    paths = (
        f"/openai/deployments/{m.target.model}/chat/completions{version}",
        "/openai/v1/chat/completions",
        "/models/chat/completions?api-version=2024-05-01-preview",
        f"/openai/v1/deployments/{m.target.model}/chat/completions",
        "/v1/completions",
    )
    path = paths[n % len(paths)]
    body = m.chat(**wanted) if "chat" in path else {"model": m.target.model, "prompt": "a", "max_tokens": 4, **wanted}
    return m.post(path, body)


async def by_batches(mallory: Mallory) -> None:
    """Lines that would each stop a replica; a batch tries again what failed for want of one."""
    kinds = (schemas.repeated, schemas.product, schemas.optional_properties, schemas.many_items, schemas.long_text)
    bodies = [mallory.chat(response_format=schemas.format_of(kinds[n % len(kinds)](n))) for n in range(20)]
    await run_batch(mallory, bodies)


_of = Kind("grammars", REFUSED)
ATTACKS = (
    _of("pattern repeated", "`^[a-z]{1,50000}$`", by_chat(schemas.repeated), short=True),
    _of("pattern nested", "400 optional groups in each other", by_chat(schemas.nested_optional)),
    _of("pattern product", "repetitions of 40 in repetitions, four deep", by_chat(schemas.product), short=True),
    _of("pattern alternatives", "3,000 of them", by_chat(schemas.alternatives)),
    _of("pattern classes", "thousands of a class of 60,000 characters", by_chat(schemas.classes)),
    _of("pattern strange", "look-ahead, back references, Unicode, what is no pattern", by_chat(schemas.strange), TAKEN),
    _of("many patterns", "a hundred in one schema", by_chat(schemas.many_patterns), TAKEN),
    _of("optional properties", "1,500 of them", by_chat(schemas.optional_properties), short=True),
    _of("pattern properties", "200 patterns for names", by_chat(schemas.pattern_properties)),
    _of("property names", "a dear pattern for names, 500 of them at least", by_chat(schemas.property_names)),
    _of("schema of many items", "5,000 to 50,000 items, each of 50", by_chat(schemas.many_items)),
    _of("prefix items", "500 items, each another text", by_chat(schemas.prefix_items)),
    _of("schema of a long text", "minLength 100,000", by_chat(schemas.long_text)),
    _of("many long texts", "200 texts of up to 900 characters", by_chat(schemas.many_long_texts), TAKEN),
    _of("giant enum", "50,000 texts", by_chat(schemas.giant_enum)),
    _of("many enums", "60 of 400 texts", by_chat(schemas.many_enums), TAKEN),
    _of("long constant", "a megabyte", by_chat(schemas.long_constant)),
    _of("doubled definitions", "each holds the next twice, 40 times", by_chat(schemas.doubled), TAKEN, short=True),
    _of("circular definitions", "each is the other", by_chat(schemas.recursive), TAKEN),
    _of("combined schemas", "allOf of anyOf and oneOf, not, if", by_chat(schemas.combined), TAKEN),
    _of("deep schema", "400 arrays in each other", by_chat(schemas.deep)),
    _of("number ranges", "bounds of 300 digits", by_chat(schemas.ranges), TAKEN),
    _of("formats", "60 texts with formats", by_chat(schemas.formats), TAKEN),
    _of("no schema", "numbers, lists and nonsense in a schema's place", by_chat(schemas.no_schema), TAKEN),
    _of("schema elsewhere", "$ref and $id with addresses that hold a name", asking(elsewhere), TAKEN),
    _of("other grammars", "regular expressions and grammars by other fields", asking(other_formats), TAKEN),
    _of("schema by tools", "parameters of a required function", asking(by_tools), TAKEN, short=True),
    _of("many tools", "128 functions with a pattern each", asking(many_tools), TAKEN),
    _of("schema by responses", "text.format and tools of /v1/responses", asking(by_responses), short=True),
    _of("schema by dialects", "Azure's paths, /models, text completions", asking(by_other_dialects), TAKEN),
    _of(
        "schema by batch", "20 lines", by_batches, BATCH, leaves_files=True, short=True
    ),
    _of("new sound schemas", "ordinary ones, each another", by_chat(schemas.sound), gets(200, 429)),
    _of("schemas near the bounds", "as dear as may be, each another", by_chat(schemas.near_the_bounds), TAKEN),
)  # fmt: skip
