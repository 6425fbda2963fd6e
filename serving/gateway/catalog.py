"""Which deployments exist, and what one request may ask of each. No HTTP."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import to_json

from serving.engines.adapters import Adapter, deployment_of
from serving.engines.engine import INTERACTIVE, Engine, EngineRequest, Operation
from serving.errors import (
    DeploymentNotAllowed,
    ForbiddenField,
    InvalidRequest,
    ModelMissing,
    OperationNotSupported,
    UnknownDeployment,
)
from serving.gateway.estimate import TokenEstimate
from serving.grammars.schemas import SchemaBudget, SchemaCosts
from serving.protocol import openai
from serving.protocol.media import check_media
from serving.protocol.messages import check_messages
from serving.protocol.openai import ChatRequest, EmbeddingsRequest, InferenceRequest
from serving.tenants.callers import Caller

_OURS = frozenset({"user", "service_tier", "input_type", "best_of", "modalities", "functions", "function_call"})
"""Fields that the gateway itself obeys; engines do not get them."""
_AZURE_NAMES = {"chat": "chatCompletion", "completions": "completion", "embeddings": "embeddings"}


_COMPARED = 200
"""Names that a wrong one is compared with: each takes a tenth of a millisecond."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may ask for; the fields are those of settings.Limits."""

    max_tokens: int | None = None
    max_n: int = 8
    max_prompts: int = 32
    max_inputs: int = 2048
    max_logprobs: int = 20
    max_stop: int = 16
    max_tools: int = 128
    max_schema: int = 64 * 2**10
    max_schema_depth: int = 24
    schemas: SchemaBudget = field(default_factory=SchemaBudget)
    answer_allowance: int = 1024


@dataclass(frozen=True, slots=True)
class Deployment:
    """A named, callable model. operations: what its model can do. spill_to: the deployment that takes what this one
    cannot. fast_lane: whether `service_tier: priority` goes before others here. adapter: what is laid over its model.
    holds_to_schemas: its engine is ours, so what that takes no notice of in a JSON schema is known, and refused.
    """

    name: str
    engine: Engine
    limits: RequestLimits
    notice: str | None = None
    revision: str = ""
    operations: frozenset[Operation] = frozenset({"chat", "completions"})
    spill_to: str | None = None
    fast_lane: bool = False
    estimate: TokenEstimate = field(default_factory=TokenEstimate)
    adapter: Adapter | None = None
    holds_to_schemas: bool = True

    @property
    def model(self) -> str:
        """What clients call it."""
        return self.adapter.model if self.adapter else self.name

    def with_adapter(self, adapter: Adapter) -> Deployment:
        """The same in everything else: limits, prices and rights are the deployment's. It does not spill: elsewhere,
        something else than the adapter would answer.
        """
        revision = f"{self.revision} {adapter.name}@{adapter.digest}"
        return replace(self, adapter=adapter, revision=revision, notice=adapter.notice or self.notice, spill_to=None)

    def tidy(
        self, request: InferenceRequest, *, request_id: str, cache_salt: str, priority: int = INTERACTIVE
    ) -> EngineRequest:
        """Turn what the caller sent into what the engine gets: listed fields within the limits, and nothing else.

        Raises ForbiddenField, InvalidRequest, OperationNotSupported.
        """
        if request.operation not in self.operations:
            raise OperationNotSupported(
                f"The {_AZURE_NAMES[request.operation]} operation does not work with the specified model, {self.name}. "
                "Please choose different model and try again.",
                param="model",
            )
        openai.check_names(request.model_extra or {})
        if isinstance(request, ChatRequest):
            unknown = (request.chat_template_kwargs or {}).keys() - openai.ALLOWED_TEMPLATE_KWARGS
            if unknown:
                raise ForbiddenField(
                    f"chat_template_kwargs may only hold {', '.join(sorted(openai.ALLOWED_TEMPLATE_KWARGS))}.",
                    param="chat_template_kwargs",
                )
        self._check_amounts(request)
        self._check_schemas(request)
        return EngineRequest(
            operation=request.operation,
            body=self._body(request),
            stream=bool(request.stream),
            request_id=request_id,
            cache_salt=cache_salt,
            priority=priority,
            adapter=self.adapter.loaded if self.adapter else "",
        )

    def tokens_of(self, request: EngineRequest) -> int:
        """What the request may take at most, as far as one can know: its prompt, and its answers' allowance."""
        body = request.body
        if request.operation == "embeddings":
            return self.estimate.prompt(body)
        asked = (body.get(name) for name in ("max_completion_tokens", "max_tokens"))
        allowed = next((amount for amount in asked if amount is not None), self.limits.answer_allowance)
        prompt = body.get("prompt")
        prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
        return self.estimate.prompt(body) + allowed * (body.get("n") or 1) * prompts

    def learn(self, request: EngineRequest, prompt_tokens: int) -> None:
        """The engine counted the prompt: the next estimate is better."""
        self.estimate.learn(request.body, prompt_tokens)

    def _body(self, request: InferenceRequest) -> dict[str, Any]:
        # Not model_dump: it would walk all that the engine is to judge.
        given = request.model_fields_set - _OURS - (request.model_extra or {}).keys()
        fields = {name: getattr(request, name) for name in type(request).model_fields if name in given}
        body = {name: value for name, value in fields.items() if value is not None}
        if isinstance(request, ChatRequest):
            body["messages"] = check_messages(request.messages)
            check_media(body["messages"])
        body["model"] = self.model
        if isinstance(request, EmbeddingsRequest):
            return body
        if self.limits.max_tokens and not body.keys() & {"max_tokens", "max_completion_tokens"}:
            body["max_tokens"] = self.limits.max_tokens
        if request.stream:
            # Usage is always asked for: it is what is charged. stream.py hides it from those who did not ask.
            body["stream_options"] = {"include_usage": True}
        else:
            body.pop("stream_options", None)
        return body

    def _check_amounts(self, request: InferenceRequest) -> None:
        """Amounts multiply the work of one request (CVE-2026-34756 and its kin), so each has a ceiling."""
        for name, (asked, limit) in self._amounts_of(request).items():
            if asked is not None and limit is not None and asked > limit:
                raise InvalidRequest(
                    f"'{name}' asks for {asked}; the deployment '{self.name}' allows {limit}.", param=name
                )

    def _amounts_of(self, request: InferenceRequest) -> dict[str, tuple[int | None, int | None]]:
        if isinstance(request, EmbeddingsRequest):
            return {"input": (request.prompts, self.limits.max_inputs)}
        logprobs = request.top_logprobs if isinstance(request, ChatRequest) else request.logprobs
        return {
            "n": (request.n, self.limits.max_n),
            "prompt": (request.prompts, self.limits.max_prompts),
            "top_logprobs" if isinstance(request, ChatRequest) else "logprobs": (logprobs, self.limits.max_logprobs),
            "prompt_logprobs": (request.prompt_logprobs, self.limits.max_logprobs),
            "stop": (len(request.stop) if isinstance(request.stop, list) else 0, self.limits.max_stop),
            "tools": (len(getattr(request, "tools", None) or []), self.limits.max_tools),
            "max_tokens": (request.max_tokens, self.limits.max_tokens),
            "max_completion_tokens": (getattr(request, "max_completion_tokens", None), self.limits.max_tokens),
        }

    def _check_schemas(self, request: InferenceRequest) -> None:
        if isinstance(request, EmbeddingsRequest):
            return
        costs, total = SchemaCosts(self.limits.schemas, known_only=self.holds_to_schemas), 0
        for placed, holder in openai.schemas_of(request):
            size, depth = len(to_json(holder)), openai.depth_of(holder)
            total += size
            if size > self.limits.max_schema or depth > self.limits.max_schema_depth:
                raise InvalidRequest(
                    f"{placed.place} is too large: {size} bytes, {depth} levels; "
                    f"allowed are {self.limits.max_schema} bytes, {self.limits.max_schema_depth} levels.",
                    param=placed.place,
                )
            if total > self.limits.schemas.total:
                raise InvalidRequest(
                    f"The request's schemas are larger than {self.limits.schemas.total} bytes together.",
                    param=placed.place,
                )
            costs.add(placed)


class Catalog:
    """The deployments by name, and their adapters, which may change."""

    def __init__(self, deployments: Iterable[Deployment], *, created: int) -> None:
        self._deployments = {deployment.name: deployment for deployment in deployments}
        self._adapted: dict[str, dict[str, Deployment]] = {}
        self.created = created
        """Unix time that model cards show."""

    def resolve(self, name: str | None, caller: Caller) -> Deployment:
        """The deployment of that name, with the adapter that the name may ask for. Raises UnknownDeployment with the
        nearest real name, not with the given, and DeploymentNotAllowed.
        """
        if name is None:
            raise ModelMissing(param="model")
        base = deployment_of(name)
        if deployment := self._deployments.get(name) or self._adapted.get(base, {}).get(name):
            if not caller.may_call(base):
                raise DeploymentNotAllowed(f"This key may not call the deployment '{base}'.", param="model")
            return deployment
        names = [known.model for known in self.models_of(caller)][:_COMPARED]
        near = difflib.get_close_matches(name[:64], names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UnknownDeployment(f"There is no deployment of this name.{hint} GET /v1/models lists them.", param="model")

    def spill_of(self, deployment: Deployment, asked: str | None, caller: Caller) -> Deployment | None:
        """Where a request goes that this deployment cannot take: where it is configured to, else where its client asks.

        None: nowhere. A deployment that the caller may not call is never a way around that.
        """
        name = deployment.spill_to or asked
        spill = self._deployments.get(name) if name and not deployment.adapter else None
        return spill if spill is not None and spill is not deployment and caller.may_call(spill.name) else None

    def open_to(self, caller: Caller) -> list[Deployment]:
        """What the caller may call."""
        return [deployment for deployment in self if caller.may_call(deployment.name)]

    def models_of(self, caller: Caller) -> list[Deployment]:
        """The same, each followed by its adapters."""
        models = []
        for deployment in self.open_to(caller):
            adapted = self._adapted.get(deployment.name, {})
            models += [deployment, *(one for name, one in adapted.items() if name == one.model)]
        return models

    def adapt(self, deployment: str, adapters: Iterable[Adapter]) -> None:
        """From now on the deployment has these adapters. Each is also known by the name that its answers carry."""
        of = self._deployments[deployment]
        adapted = [of.with_adapter(adapter) for adapter in adapters]
        self._adapted[deployment] = {name: one for one in adapted for name in _names_of(one)}

    def __iter__(self) -> Iterator[Deployment]:
        return iter(self._deployments.values())


def _names_of(adapted: Deployment) -> tuple[str, ...]:
    return (adapted.adapter.model, adapted.adapter.loaded) if adapted.adapter else ()
