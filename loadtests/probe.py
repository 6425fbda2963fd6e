"""Before a run: is the server there, what is the model called, how long is its context, how many tokens is a word."""

import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from random import Random
from typing import Any

from loadtests.notes import Notes
from loadtests.plan import Server

WORDS = 60
DEFAULT_CONTEXT = 4096


class ProbeError(Exception):
    """The server cannot be asked; the message says why and what to do."""


def probe(url: str, key: str, model: str | None = None, context: int | None = None, wait_s: float = 60.0) -> Server:
    """What a run must know of a server. Sends three small requests. Raises ProbeError."""
    base = url.rstrip("/").removesuffix("/v1")
    models = _models(base, key)
    if model is None:
        if not models:
            raise ProbeError(f"{base} lists no model for this key; name one with --model")
        model = str(models[0]["id"])
    card = next((card for card in models if card.get("id") == model), {})
    asked = {"model": model, "messages": [{"role": "user", "content": "word " * WORDS}], "max_tokens": 2}
    forced = True
    status, answer = _post(base, key, asked | {"min_tokens": 2, "ignore_eos": True}, wait_s)
    if status in (400, 422):  # Azure and others refuse fields that they do not know
        forced = False
        status, answer = _post(base, key, asked, wait_s)
    if status != 200:
        raise ProbeError(f"{base} answered a small request to {model!r} with {status}{_why(answer)}")
    tokens = (answer.get("usage") or {}).get("prompt_tokens") or WORDS
    found = context or card.get("max_model_len") or _context(base, key, model, wait_s) or DEFAULT_CONTEXT
    return Server(base, model, int(found), _tokens_per_word(base, key, model, wait_s) or tokens / WORDS, forced)


def _tokens_per_word(base: str, key: str, model: str, wait_s: float) -> float | None:
    """Of the text that the runs send: the difference of two lengths, so that a template does not count."""
    notes, counts = Notes("probe", 1.0), []
    for words in (40, 140):
        message = {"role": "user", "content": notes.text(words, Random(1), nonce=False)}
        status, answer = _post(base, key, {"model": model, "messages": [message], "max_tokens": 1}, wait_s)
        if status != 200:
            return None
        counts.append((answer.get("usage") or {}).get("prompt_tokens") or 0)
    return float(counts[1] - counts[0]) / 100 if counts[1] > counts[0] else None


def _context(base: str, key: str, model: str, wait_s: float) -> int | None:
    """The context's length, from how a prompt that is too long is refused: all servers say it in one sentence."""
    body = {"model": model, "messages": [{"role": "user", "content": "word " * 300_000}], "max_tokens": 1}
    status, answer = _post(base, key, body, wait_s)
    found = re.search(r"maximum context length is (\d+)", json.dumps(answer)) if status == 400 else None
    return int(found[1]) if found else None


def _models(base: str, key: str) -> list[dict[str, Any]]:
    status, answer = _asked(base, "/v1/models", key, None, 20)
    if status == 401:
        raise ProbeError(f"{base} does not know this key; give one with --key or --key-file")
    if status != 200:
        raise ProbeError(f"{base}/v1/models answered {status}; is the URL right, up to where /v1 begins?")
    return list(answer.get("data") or [])


def _post(base: str, key: str, body: Mapping[str, Any], wait_s: float) -> tuple[int, dict[str, Any]]:
    return _asked(base, "/v1/chat/completions", key, json.dumps(body).encode(), wait_s)


def _asked(base: str, path: str, key: str, body: bytes | None, wait_s: float) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", "api-key": key}
    request = urllib.request.Request(base + path, body, headers)
    opener = urllib.request.build_opener(  # no proxy: the machine's own would stand between
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    try:
        with opener.open(request, timeout=wait_s) as response:
            return response.status, _json(response.read())
    except urllib.error.HTTPError as error:
        return error.code, _json(error.read())
    except (OSError, ValueError) as error:
        raise ProbeError(
            f"nothing answers at {base}: {getattr(error, 'reason', error)}. `make serve` starts one"
        ) from error


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _why(answer: Mapping[str, Any]) -> str:
    error = answer.get("error")
    return f": {error.get('message')}" if isinstance(error, dict) else ""
