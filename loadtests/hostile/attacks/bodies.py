"""Bodies that cost a gateway work before anybody has looked at a quota."""

import json
from collections.abc import Callable
from typing import Any

from loadtests.hostile.attack import Kind, Run, asking, gets
from loadtests.hostile.attacks.schemas import CHAT, RESPONSES
from loadtests.hostile.wire import Mallory

MIB = 2**20
MOST = 4 * MIB - 2000
"""Just below the largest body that is read."""
REFUSED = gets(400, 408, 413, 415, 422, 429)
TAKEN = REFUSED | gets(200)


def spliced(m: Mallory, place: str, text: bytes) -> bytes:
    """A chat's body with this text where `place` is the value: json.dumps would not write it, or not so fast."""
    return json.dumps(m.chat() | {place: "@@"}).encode().replace(b'"@@"', text)


def with_content(m: Mallory, content: bytes) -> bytes:
    message = b'[{"role": "user", "content": ' + content + b"}]"
    return spliced(m, "messages", message)


def filled(piece: bytes, most: int = MOST) -> bytes:
    """A JSON list of as many of these as fit."""
    return b"[" + b",".join([piece] * (most // (len(piece) + 1))) + b"]"


def body(make: Callable[[Mallory, int], Any], path: str = CHAT, rate: float = 2.0, **more: Any) -> Run:
    return asking(lambda m, n: m.post(path, make(m, n), **more), rate=rate, at_most=4)


def nested_lists(m: Mallory, n: int) -> bytes:
    return with_content(m, filled(b"[" * 100 + b"]" * 100))


def empty_lists(m: Mallory, n: int) -> bytes:
    return with_content(m, filled(b"[]" if n % 2 else b"{}"))


def lists_elsewhere(m: Mallory, n: int) -> bytes:
    """Where a body's fields are looked at late or never."""
    places = ("metadata", "prediction", "functions", "stop", "user", "seed", "nobody_knows_it", "chat_template_kwargs")
    return spliced(m, places[n % len(places)], filled(b"[[]]"))


def lists_at_every_path(m: Mallory, n: int) -> bytes:
    """A million lists, as the body or in a field of it."""
    paths = (
        "/v1/responses", "/v1/batches", "/v1/embeddings", "/v1/completions", "/admin/v1/keys", "/admin/v1/tenants",
        "/models/chat/completions?api-version=2024-05-01-preview", "/openai/v1/responses", "/v1/batches/a/cancel",
        f"/openai/deployments/{m.target.model}/embeddings?api-version=2024-10-21", "/v1/responses/a/cancel",
    )  # fmt: skip
    lists = filled((b"[[]]", b"[" * 50 + b"]" * 50)[n % 2])
    data = lists if n % 3 == 2 else b'{"model": "m", "input": %s, "metadata": {}}' % lists
    return m.post(paths[n % len(paths)], data)


def one_deep_list(m: Mallory, n: int) -> bytes:
    depth = (200, 5_000, 100_000, MOST // 2)[n % 4]
    return with_content(m, b"[" * depth + b"]" * depth) if n % 3 else b"[" * depth


def wide_object(m: Mallory, n: int) -> bytes:
    return spliced(m, "metadata", b"{" + b",".join(b'"k%d":%d' % (i, n) for i in range(250_000)) + b"}")


def one_name(m: Mallory, n: int) -> bytes:
    """The same name over and over: the last one counts, all of them cost."""
    model = json.dumps(m.target.model).encode()
    return b'{"model": ' + model + b', "messages": []' * 200_000 + b"}"


def token_ids(m: Mallory, n: int) -> bytes:
    tokens = b"[" + b"1," * (MOST // 2 - 50) + b"1]"
    return b'{"model": %s, "prompt": %s}' % (json.dumps(m.target.model).encode(), tokens)


def many_prompts(m: Mallory, n: int) -> bytes:
    return b'{"model": %s, "prompt": %s, "n": 8}' % (
        json.dumps(m.target.model).encode(),
        filled((b'"a"', b"[1]")[n % 2]),
    )


def many_messages(m: Mallory, n: int) -> bytes:
    count = 4096 if n % 2 else 60_000
    return spliced(m, "messages", b"[" + b",".join([b'{"role":"user","content":"a"}'] * count) + b"]")


def many_parts(m: Mallory, n: int) -> bytes:
    return with_content(m, filled(b'{"type":"text","text":"a"}'))


def long_numbers(m: Mallory, n: int) -> bytes:
    digits = (b"9" * 1_000_000, b"0." + b"1" * 1_000_000, b"1e" + b"9" * 100_000, b"-" + b"7" * 4_300)[n % 4]
    return spliced(m, ("seed", "temperature", "max_tokens", "metadata", "n", "top_p")[n % 6], digits)


def escapes(m: Mallory, n: int) -> bytes:
    piece = (rb"\u0041", rb"\n", rb"\ud83d\ude00", rb"\ud800", b"\xe2\x80\xa8", b"\x00", b"\xff\xfe")[n % 7]
    return with_content(m, b'"' + piece * (MOST // len(piece) // 2) + b'"')


def long_text(m: Mallory, n: int) -> bytes:
    """One text, as long as may be, of which the tokenizer makes what it likes."""
    piece = ("a", " ", "aA1-", "0", "\u0301", "💊", "<|im_end|>", "\u200b", "ab" * 5000 + " ")[n % 9].encode()
    return with_content(m, b'"' + piece * (MOST // len(piece)) + b'"')


def many_stops(m: Mallory, n: int) -> bytes:
    return spliced(m, "stop", filled(b'"%d"' % n))


def giant_bias(m: Mallory, n: int) -> bytes:
    count = 1024 if n % 2 else 200_000
    return spliced(m, "logit_bias", b"{" + b",".join(b'"%d":-100' % i for i in range(count)) + b"}")


def deep_tools(m: Mallory, n: int) -> bytes:
    depth = 20_000
    schema = b'{"type":"array","items":' * depth + b"{}" + b"}" * depth
    name, args = b'{"type":"function","function":{"name":"a","parameters":', b"}}"
    return spliced(m, "tools", b"[" + name + schema + args + b"]")


def many_calls(m: Mallory, n: int) -> bytes:
    """Calls of functions that an earlier answer is said to have made."""
    call = b'{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}'
    turn = b'{"role":"assistant","content":null,"tool_calls":' + filled(call, MOST - 200) + b"}"
    return spliced(m, "messages", b'[{"role":"user","content":"a"},' + turn + b"]")


def many_items(m: Mallory, n: int) -> bytes:
    piece = (
        b'{"type":"message","role":"user","content":"a"}', b'{"type":"reasoning","summary":[]}', b"[]", b'"a"',
        b'{"type":"function_call_output","call_id":"a","output":"b"}', b'{"type":"item_reference","id":"msg_a_o0"}',
    )[n % 6]  # fmt: skip
    return b'{"model": %s, "input": %s}' % (json.dumps(m.target.model).encode(), filled(piece))


def references(m: Mallory, n: int) -> bytes:
    items = [{"type": "item_reference", "id": f"msg_{n:04d}{i:028d}_o0"} for i in range(3000)]
    return json.dumps({"model": m.target.model, "input": items, "store": False}).encode()


_of = Kind("bodies", REFUSED)
ATTACKS = (
    _of("nested lists", "20,000 lists of depth 100 in a message", body(nested_lists), short=True),
    _of("empty lists", "1.4 million `[]` or `{}`", body(empty_lists), short=True),
    _of("lists in other fields", "a million lists in fields that are looked at late", body(lists_elsewhere)),
    _of("lists at every path", "a million, at each route", asking(lists_at_every_path), REFUSED | gets(401, 403, 404)),
    _of("deep list", "up to two million deep", body(one_deep_list)),
    _of("wide object", "250,000 names", body(wide_object)),
    _of("repeated name", "the same field 200,000 times", body(one_name)),
    _of("token ids", "two million as a prompt", body(token_ids, "/v1/completions"), short=True),
    _of("many prompts", "a million prompts, eight answers each", body(many_prompts, "/v1/completions")),
    _of("many messages", "4,096 or 60,000 of one letter", body(many_messages), TAKEN),
    _of("many parts", "160,000 parts of a message", body(many_parts)),
    _of("long numbers", "a million digits", body(long_numbers), TAKEN),
    _of("escapes", "two million of them, also of no character", body(escapes), TAKEN),
    _of("long text", "4 MB of a few characters, for a tokenizer", body(long_text), TAKEN),
    _of("many stops", "a million stop texts", body(many_stops)),
    _of("giant logit_bias", "200,000 tokens, or as many as may be", body(giant_bias), TAKEN),
    _of("deep tools", "20,000 arrays in a parameter", body(deep_tools), short=True),
    _of("many tool calls", "50,000 in an earlier turn", body(many_calls)),
    _of("many items", "70,000 items of a response's input", body(many_items, RESPONSES), TAKEN),
    _of("item references", "3,000 to what nobody has", body(references, RESPONSES), REFUSED | gets(404), short=True),
)
