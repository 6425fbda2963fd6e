"""JSON schemas that cost an engine seconds to make a grammar of. n: makes each differ from the last."""

from typing import Any

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
Schema = dict[str, Any]


def text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def fields(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def format_of(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def repeated(n: int) -> Schema:
    return text(f"^[a-z]{{1,{50_000 + n}}}$")


def nested_optional(n: int) -> Schema:
    return text("^" + "(a" * 400 + f"{n}" + ")?" * 400 + "$")


def product(n: int) -> Schema:
    """Small repetitions that multiply."""
    return text(f"^((([a-z]{{1,40}} ){{1,40}}){{1,40}}){{1,{40 + n}}}$")


def alternatives(n: int) -> Schema:
    return text("^(" + "|".join(f"{word:x}[0-9a-f]{{0,8}}" for word in range(3000 + n)) + ")$")


def classes(n: int) -> Schema:
    return text(rf"^[\u0000-\ud7ff\ue000-\uffff]{{0,{3000 + n}}}$")


def strange(n: int) -> Schema:
    """What regular expressions have and grammars cannot do, or cannot do cheaply."""
    odd = (
        r"(?=a{1,9999})b", r"(a+)+\1$", r"(?<name>x{1,9999})\k<name>", r"^(?:a?){500}a{500}$", r"\p{L}{1,9999}",
        r"[[:alpha:]]{9999}", "(" * 3000 + ")" * 3000, r"a{99999999999999999999}", r"a{5,2}", r"[z-a]", r"\x",
        "(?i)A{9}", r"\b\B\A\Z", "a**", r"[^\d\D]{1,2000}", "(?P<x>", "\x00{1,5000}", "💊{1,9999}",
        r"\u{10FFFF}{1,5000}",
    )  # fmt: skip
    return text(odd[n % len(odd)] + ("" if n < len(odd) else f"|{n}"))


def many_patterns(n: int) -> Schema:
    return fields(**{f"p{i}": text(f"^[a-z]{{1,{60 + i}}}{n}$") for i in range(100)})


def optional_properties(n: int) -> Schema:
    return {"type": "object", "properties": {f"p{n}_{i}": {"type": "integer"} for i in range(1500)}}


def pattern_properties(n: int) -> Schema:
    return {"type": "object", "patternProperties": {f"^{i}[a-z]{{1,200}}{n}$": {"type": "string"} for i in range(200)}}


def property_names(n: int) -> Schema:
    return {"type": "object", "propertyNames": text(f"^[a-z]{{1,{20_000 + n}}}$"), "minProperties": 500}


def many_items(n: int) -> Schema:
    return {"type": "array", "minItems": 5_000 + n, "maxItems": 50_000, "items": {"type": "array", "minItems": 50}}


def prefix_items(n: int) -> Schema:
    return {"type": "array", "prefixItems": [{"type": "string", "maxLength": 500 + i} for i in range(500 + n)]}


def long_text(n: int) -> Schema:
    return fields(a={"type": "string", "minLength": 100_000 + n, "maxLength": 1_000_000})


def many_long_texts(n: int) -> Schema:
    """None is long, together they are."""
    return fields(**{f"p{i}": {"type": "string", "maxLength": 900 + n} for i in range(200)})


def giant_enum(n: int) -> Schema:
    return {"enum": [f"{n} {i} {'x' * 20}" for i in range(50_000)]}


def many_enums(n: int) -> Schema:
    return fields(**{f"p{i}": {"enum": [f"{n}-{i}-{k}" for k in range(400)]} for i in range(60)})


def long_constant(n: int) -> Schema:
    return {"const": {"a" * 100_000 + str(n): ["b" * 1_000_000]}}


def doubled(n: int) -> Schema:
    """Each definition holds the next one twice: 2^40 of the last."""
    parts = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    twice = {f"d{i}": fields(a=part, b=part) for i, part in enumerate(parts.values())}
    return {"$defs": twice | {"d40": {"const": n}}, "$ref": "#/$defs/d0"}


def recursive(n: int) -> Schema:
    """Definitions that are each other and nothing else."""
    loop = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}, "c": {"allOf": [{"$ref": "#/$defs/c"}]}}
    return {"$defs": loop, "$ref": "#/$defs/" + "abc"[n % 3]}


def combined(n: int) -> Schema:
    """Schemas that are to hold at once, or one of them: a product of what each allows."""
    kinds = [fields(**{f"k{i}": text(f"^[a-z]{{1,{30 + n}}}$")}) for i in range(30)]
    return {"allOf": [{"anyOf": kinds}, {"oneOf": kinds}, {"not": kinds[0]}], "if": kinds[1], "then": {"anyOf": kinds}}


def deep(n: int) -> Schema:
    schema: Schema = {"type": "integer", "minimum": n}
    for _ in range(400):
        schema = {"type": "array", "items": schema}
    return schema


def ranges(n: int) -> Schema:
    """Numbers between bounds become regular expressions."""
    bounds = [(-(2**63), 2**63 - 1), (1, 10**300 + n), (0.1 + n, 1e300), (-1e-300, 1e-300), (5, 1), (0, 10**18 + n)]
    kinds = [{"type": "integer", "minimum": low, "maximum": high} for low, high in bounds]
    kinds += [{"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high} for low, high in bounds]
    return {"anyOf": kinds * 20} if n % 4 == 0 else fields(a=kinds[n % len(kinds)])


def formats(n: int) -> Schema:
    names = ("date-time", "email", "uri", "regex", "ipv6", "uuid", "json-pointer", "iri", "hostname", f"own-{n}")
    return fields(**{f"p{i}": {"type": "string", "format": names[i % len(names)]} for i in range(60)})


def no_schema(n: int) -> Any:
    """What is no schema at all, or one with the wrong kinds of value everywhere."""
    odd: list[Any] = [
        None, True, False, 7, "text", [], [[]], {"type": 5}, {"type": ["string", 7]}, {"type": "nothing"}, {"enum": []},
        {"enum": {}}, {"properties": []}, {"properties": {"a": 5}}, {"required": "a"}, {"items": 5}, {"pattern": 5},
        {"type": "string", "pattern": ["a"]}, {"type": "string", "maxLength": -1}, {"type": "string", "maxLength": 1.5},
        {"type": "string", "minLength": "5"}, {"type": "array", "minItems": 10**400}, {"anyOf": []}, {"anyOf": {}},
        {"allOf": [5]}, {"$ref": 5}, {"$ref": "#/nowhere"}, {"$ref": "#/$defs/a", "$defs": []}, {"$ref": "#" * 9999},
        {"$anchor": 5}, {"const": None}, {"additionalProperties": []}, {"type": "object", "minProperties": 10**9},
        {"dependentSchemas": {"a": {"$ref": "#"}}}, {"unevaluatedItems": {"$ref": "#"}}, {"contains": {"$ref": "#"}},
        {"type": "number", "multipleOf": 0}, {"type": "integer", "multipleOf": 10**60}, {"$dynamicRef": "#x"},
        {"type": "string", "format": 5}, {"title": "t" * 200_000}, {"default": [[[[]]]]}, {"": {"": {"": {}}}},
    ]  # fmt: skip
    return odd[n % len(odd)]


def sound(n: int) -> Schema:
    """What an ordinary application asks for, each time a little different: every one has to be compiled."""
    items = fields(name={"type": "string"}, dose={"type": "number"}, unit={"enum": ["mg", "g", f"u{n}"]})
    return fields(medications={"type": "array", "items": items, "maxItems": 20}, code=text(r"^[A-Z][0-9]{2}$"))


def near_the_bounds(n: int) -> Schema:
    """As dear as a bound that looks reasonable may still allow, each time another: compiling is the attack."""
    return fields(
        **{f"p{n}_{i}": {"type": "array", "maxItems": 30, "items": text(f"^[a-z]{{1,{20 + i}}}$")} for i in range(12)}
    )
