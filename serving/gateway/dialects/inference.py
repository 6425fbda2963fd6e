"""The dialect of the Azure AI Model Inference API: paths below /models, one closed list of parameters.

Its client's parser of streams is strict: an error event in the middle disappears there without a trace, so a stream
that breaks ends with its connection (azure-wire-format, part 2 and rules 2 and 3).
"""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection

from serving.errors import ExtraParameter, InvalidRequest, ModelMissing, ServingError, UnknownDeployment
from serving.gateway.dialects.azure import AzureOpenAI
from serving.protocol import openai

KNOWN = frozenset(
    [
        "messages", "model", "frequency_penalty", "presence_penalty", "temperature", "top_p", "max_tokens", "seed",
        "stop", "stream", "response_format", "tools", "tool_choice", "modalities",
        "input", "dimensions", "encoding_format", "input_type",
    ]
)  # fmt: skip
"""azure-wire-format, part 2: everything else is extra."""
_NAMES = openai.KNOWN | openai.IGNORED | openai.FORBIDDEN.keys() | openai.REFUSED.keys() | {"extra-parameters"}
"""What an error may repeat; any other name is the caller's own text."""


class ModelInference(AzureOpenAI):
    def speaks(self, path: str) -> bool:
        return path == "/models" or path.startswith("/models/")

    def read(self, body: dict[str, Any], connection: HTTPConnection) -> dict[str, Any]:
        """`extra-parameters: error` (the default), `drop` or `pass-through` decides about what this API does not know.
        What is passed through meets the gateway's own list next.
        """
        policy = connection.headers.get("extra-parameters", "error").strip().lower()
        if policy not in ("error", "drop", "pass-through"):
            raise InvalidRequest("extra-parameters must be error, drop or pass-through.", param="extra-parameters")
        extra = [name for name in body if name not in KNOWN]
        if policy == "drop":
            return {name: value for name, value in body.items() if name in KNOWN}
        if extra and policy == "error":
            raise ExtraParameter([name for name in extra if name in _NAMES])
        if not isinstance(body.get("model"), str):
            body = {name: value for name, value in body.items() if name != "model"}
        return body

    def body_of(self, error: ServingError) -> dict[str, Any]:
        if isinstance(error, UnknownDeployment):
            return {"error": {"code": "unknown_model", "message": f"Unknown model. {error.message}"}}
        if isinstance(error, ModelMissing):
            return {"error": {"code": "no_model_name", "message": error.message}}
        return super().body_of(error)

    def broken(self, error: ServingError) -> bytes | None:
        return None
