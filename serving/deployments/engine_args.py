"""The names of vLLM's engine arguments, so that a mistyped one is found when the configuration is read.

Read from vLLM's source without importing it: the import takes ten seconds and half a gigabyte.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_CLASSES = {
    "engine/arg_utils.py": ("EngineArgs", "AsyncEngineArgs"),
    "entrypoints/launchers/cli_args.py": ("BaseFrontendArgs", "FrontendArgs"),
}
# They come from elsewhere in the configuration, or would undo what the product promises.
RESERVED = {
    "model": "model.source",
    "tokenizer": "model.source",
    "revision": "model.revision",
    "tokenizer_revision": "model.revision",
    "served_model_name": "the deployment's name",
    "tensor_parallel_size": "engine.tensor_parallel_size",
    "enable_lora": "adapters",
    "lora_modules": "adapters",
    "trust_remote_code": "nothing: code in a model repository is not run",
    "enable_log_requests": "nothing: prompts are not logged",
    "enable_log_outputs": "nothing: answers are not logged",
    "enable_prompt_embeds": "nothing: embeddings are not accepted as input",
    "allowed_local_media_path": "nothing: media is sent inline",
    "allowed_media_domains": "nothing: media is sent inline",
    "trust_request_chat_template": "nothing: templates come with the model",
    "api_key": "nothing: the gateway holds the keys",
}

BACKEND = "xgrammar"
"""What holds answers to a schema. Schemas are checked and compiled with it before the engine gets them (grammars/), so
it is the product's to choose."""
_OTHER_BACKENDS = {
    "auto": "an engine keeps the first backend that a request needed, and breaks or refuses the schemas of others "
    "(vllm-project/vllm 43920)",
}


def known_names() -> frozenset[str]:
    """All names that vLLM takes here; empty where vLLM is not installed, as on a gateway-only machine."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        return frozenset()
    root = Path(spec.origin).parent
    return frozenset(name for file, classes in _CLASSES.items() for name in _fields(root / file, classes))


def _fields(file: Path, classes: Iterable[str]) -> Iterable[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name in classes:
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    yield item.target.id


def problems_with(args: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    """One sentence for each argument that cannot be used, with the nearest right name."""
    problems = []
    for name in args:
        if name in RESERVED:
            problems.append(f"engine.args.{name}: set {RESERVED[name]} instead")
        elif known and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            problems.append(f"engine.args.{name}: vLLM has no such argument{hint}")
        elif name == "structured_outputs_config":
            problems += _problems_with_backend(args[name])
    return problems


def _problems_with_backend(given: object) -> list[str]:
    where = "engine.args.structured_outputs_config"
    if not isinstance(given, Mapping):
        return [f"{where}: must be a mapping, such as {{disable_any_whitespace: true}}"]
    backend = given.get("backend", BACKEND)
    if backend == BACKEND:
        return []
    why = _OTHER_BACKENDS.get(str(backend), f"schemas are checked with {BACKEND} before the engine gets them")
    return [f"{where}.backend: leave it out, or write '{BACKEND}': {why}"]


def with_backend(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the structured-output backend said: vLLM's default is `auto`."""
    return {**args, "structured_outputs_config": {**args.get("structured_outputs_config", {}), "backend": BACKEND}}
