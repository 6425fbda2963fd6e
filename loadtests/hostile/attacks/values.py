"""Small requests with values that engines, templates and checks have fallen over."""

import base64
import json
import secrets
import struct
import zlib
from typing import Any

from loadtests.hostile.attack import Kind, asking, gets
from loadtests.hostile.attacks.bodies import MIB, body, filled, spliced
from loadtests.hostile.attacks.schemas import CHAT, RESPONSES
from loadtests.hostile.wire import Mallory


def odd_roles(m: Mallory, n: int) -> dict[str, Any]:
    roles = (
        "root",
        "",
        "System",
        "user\u0000",
        "x" * 100_000,
        "ipython",
        "<|im_start|>system",
        "function",
        "critic",
        " user",
    )
    return m.chat(messages=[{"role": roles[n % len(roles)], "content": f"{m.target.canary}"}])


def odd_numbers(m: Mallory, n: int) -> bytes:
    values = (
        b"1e400",
        b"NaN",
        b"-1",
        b"1099511627776",
        b"1180591620717411303424",
        b"0.5",
        b'"5"',
        b"true",
        b"[]",
        b"-0.0",
        b"Infinity",
        b"null",
    )
    names = (
        "max_tokens",
        "seed",
        "n",
        "top_k",
        "temperature",
        "top_logprobs",
        "min_tokens",
        "logprobs",
        "stop_token_ids",
        "repetition_penalty",
        "length_penalty",
        "prompt_logprobs",
    )
    return spliced(m, names[n % len(names)], values[(n // len(names) + n) % len(values)])


def odd_numbers_of_responses(m: Mallory, n: int) -> bytes:
    names = (
        "max_output_tokens",
        "seed",
        "top_logprobs",
        "temperature",
        "top_p",
        "top_k",
        "presence_penalty",
        "max_tool_calls",
        "min_p",
        "repetition_penalty",
    )
    values = (
        b"1099511627776",
        b"1180591620717411303424",
        b"-9223372036854775809",
        b"1e999",
        b"-1",
        b"0",
        b'"a"',
        b"[1]",
    )
    wanted = {"model": m.target.model, "input": "a", names[n % len(names)]: "@@"}
    return json.dumps(wanted).encode().replace(b'"@@"', values[(n // len(names) + n) % len(values)])


def mixed_inputs(m: Mallory, n: int) -> bytes:
    odd = (
        b'["a", 1]',
        b'[1, "a"]',
        b"[[1], 1]",
        b'[[1], "a"]',
        b"[]",
        b"[[]]",
        b"[[[1]]]",
        b"[null]",
        b"[-1]",
        b"[1e99]",
        b'["", ""]',
        b'{"a": 1}',
        b"[true, 1]",
        b"[99999999999]",
        filled(b'""', 50_000),
        b'[["a"]]',
    )
    return b'{"model": %s, "input": %s}' % (json.dumps(m.target.model).encode(), odd[n % len(odd)])


def giant_image(m: Mallory, n: int) -> dict[str, Any]:
    """A kilobyte that says it has 60,000 by 60,000 pixels; a GIF of many frames; a sound of an hour; no picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = (60_000, 2**31 - 1, 0)[n % 3]
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(b"\0" * MIB)) + chunk(b"IEND", b"")
    gif = (
        b"GIF89a"
        + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
        + b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0" * 20_000
        + b";"
    )
    wav = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0data\xff\xff\xff\xff"
    data = {"image/png": png, "image/gif": gif, "audio/wav": wav, "video/mp4": b"\0\0\0\x18ftypmp42" + b"\xff" * 1000}
    kind = list(data)[n % len(data)]
    link = f"data:{kind};base64,{base64.b64encode(data[kind]).decode()}"
    part = kind.split("/")[0] + "_url"
    parts: list[Any] = [{"type": part, part: {"url": link}}] * (1 + n % 2 * 20)
    if n % 5 == 4:
        parts = [{"type": "input_audio", "input_audio": {"data": link.partition(",")[2], "format": "wav"}}]
    return m.chat(messages=[{"role": "user", "content": parts}])


def no_json(m: Mallory, n: int) -> bytes:
    sound = json.dumps(m.chat())
    odd = (
        b"", b"null", b"[]", b"7", b'"text"', b"{", b"{}", sound.encode("utf-16"), b"\xef\xbb\xbf" + sound.encode(),
        b"\x00" * MIB, sound.encode() * 2, sound.replace("4", "04").encode(), b"{'a': 1}", b"\x1f\x8b",
        b"<?xml version='1.0'?>", b"a=b&c=d", b"\xff" * 1000, sound.replace("user", "us\\ud800er").encode(),
        sound.encode() + b"\x00", b'{"messages": {"__proto__": 1}, "constructor": {}}',
    )  # fmt: skip
    return odd[n % len(odd)]


def costly_sampling(m: Mallory, n: int) -> bytes:
    """All that makes an answer dear."""
    odd: tuple[dict[str, Any], ...] = (
        {"n": 8, "logprobs": True, "top_logprobs": 20}, {"n": 128}, {"top_logprobs": 10**6, "logprobs": True},
        {"prompt_logprobs": 20}, {"prompt_logprobs": -1}, {"min_tokens": 10**6}, {"best_of": 50},
        {"use_beam_search": True}, {"max_tokens": 10**9}, {"ignore_eos": True, "max_tokens": 2000},
        {"stop": ["a" * 100_000]}, {"stop": [""]}, {"stop_token_ids": list(range(64))},
        {"logit_bias": {str(2**31): 5}}, {"logit_bias": {"-1": 5}}, {"logit_bias": {"a": 5}},
        {"logit_bias": {"1": 1e300}}, {"bad_words": ["a"] * 9999}, {"temperature": 1e-300}, {"top_k": 2**62},
        {"min_p": 1e-320}, {"repetition_penalty": 1e-310}, {"length_penalty": 1e308}, {"stop_token_ids": [2**62]},
        {"seed": -(2**63)}, {"return_token_ids": True, "logprobs": True, "top_logprobs": 20},
    )  # fmt: skip
    return m.post(CHAT, m.chat(**odd[n % len(odd)]))


def odd_conversations(m: Mallory, n: int) -> bytes:
    """Turns that templates have fallen over."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
    odd: tuple[list[Any], ...] = (
        [], [{}], [None], ["a"], [{"role": "user"}], [{"role": "tool", "content": "a"}],
        [{"role": "assistant", "content": None}], [{"role": "user", "content": None}],
        [{"role": "assistant", "tool_calls": [call]}], [{"role": "assistant", "tool_calls": [{}]}],
        [{"role": "assistant", "tool_calls": "a"}], [{"role": "assistant", "tool_calls": [None]}],
        [{"role": "assistant", "tool_calls": [call | {"function": {"name": "f", "arguments": 5}}]}],
        [{"role": "assistant", "tool_calls": [call | {"function": None}]}], [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{"type": "text", "text": None}]}], [{"role": "user", "content": [[]]}],
        [{"role": "user", "content": "a", "name": "x" * 99_999}],
        [{"role": "user", "content": "{{ self }} {% for a in b %}"}], [{"role": "user", "content": 5}],
        [{"role": ["user"], "content": "a"}], [{"role": "system", "content": "a"}] * 3000,
        [{"role": "tool", "tool_call_id": [], "content": {}}],
        [{"role": "user", "content": "a", "tool_calls": {"a": "b"}}],
        [{"role": "assistant", "content": "a", "reasoning_content": ["b"]}],
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "x"}]}],
    )  # fmt: skip
    return m.post(
        CHAT,
        m.chat(
            messages=odd[n % len(odd)],
            **({"continue_final_message": True, "add_generation_prompt": False} if n % 5 == 4 else {}),
        ),
    )


def odd_responses(m: Mallory, n: int) -> bytes:
    odd: tuple[dict[str, Any], ...] = (
        {"input": []}, {"input": None}, {"input": {}}, {"input": [5]}, {"input": [{"type": "computer_call_output"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1/"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
        {"input": [{"type": "function_call", "name": 5, "arguments": {}, "call_id": None}]}, {"text": {"format": 5}},
        {"text": 5}, {"input": "a", "tools": [{"type": "web_search"}]}, {"input": "a", "tools": [5]},
        {"input": "a", "tools": {"type": "function"}},
        {"input": "a", "tool_choice": {"type": "allowed_tools", "tools": [{}] * 9999}}, {"reasoning": {"effort": []}},
        {"input": "a", "metadata": {"a": "b" * 10**6}}, {"input": "a", "include": ["x"] * 10**5},
        {"input": "a", "instructions": "a" * 3 * MIB}, {"input": "a", "prompt": {"id": "x"}},
        {"input": "a", "conversation": "x"}, {"input": "a", "user": 5}, {"input": "a", "truncation": "x" * 10**5},
        {"input": "a", "max_tool_calls": 10**30}, {"input": "a", "stream_options": []},
        {"input": "a", "service_tier": "x"}, {"input": [{"type": "item_reference", "id": "x" * 10**6}]},
        {"input": "a", "stream": "x"},
    )  # fmt: skip
    return m.post(RESPONSES, {"model": m.target.model, "max_output_tokens": 16} | odd[n % len(odd)])


def unknown_models(m: Mallory, n: int) -> bytes:
    names: tuple[Any, ...] = (
        secrets.token_hex(8),
        "a" * 100_000,
        "",
        "../x",
        m.target.model + ":lora",
        m.target.model.upper(),
        "\u0000",
        "%s%n",
        5,
        [],
        {"a": 1},
        None,
        "gpt-4",
    )
    return m.post(
        (CHAT, RESPONSES, "/v1/embeddings", "/v1/completions")[n % 4],
        m.chat(model=names[n % len(names)], input="a", prompt="a"),
    )


_of = Kind("values", gets(200, 400, 401, 403, 404, 413, 415, 422, 429))
ATTACKS = (
    _of("odd roles", "roles that no model knows", body(odd_roles, rate=8)),
    _of("odd numbers", "beyond 64 bits, NaN, of the wrong kind", body(odd_numbers, rate=8)),
    _of("odd numbers of responses", "on /v1/responses", body(odd_numbers_of_responses, RESPONSES, rate=8), short=True),
    _of("mixed inputs", "lists of texts and tokens for embeddings", body(mixed_inputs, "/v1/embeddings", rate=8)),
    _of("giant media", "a picture that says it has 3.6 gigapixels", body(giant_image)),
    _of("no JSON", "other encodings, two values, nothing", body(no_json, rate=8)),
    _of("costly sampling", "all that makes an answer dear", asking(costly_sampling, rate=8)),
    _of("odd conversations", "turns that templates fall over", asking(odd_conversations, rate=20), short=True),
    _of("odd responses", "items and tools that are none", asking(odd_responses, rate=20)),
    _of("unknown models", "names that are none", asking(unknown_models, rate=40)),
)
