"""The assembly's part for what answers: a deployment's engine, how it signs in where it runs, what guards it.

settings ─┬─ replicas under Ray: where they are ───────┐
          ├─ an endpoint: address, credential, breaker ─┼─ Engine ── guards around it, if it has any
          └─ echo ──────────────────────────────────────┘
"""

from __future__ import annotations

import functools
import logging
import os
import random
from collections.abc import Callable, Mapping

from serving import settings as config
from serving.azure_tokens import EntraTokens
from serving.deployments.naming import SECRET_HEADER
from serving.deployments.proxy.proof import proof_headers
from serving.engines.breaker import BreakingEngine
from serving.engines.credentials import Credential, KeyCredential, NoCredential, TokenCredential
from serving.engines.deaths import Deaths
from serving.engines.echo import EchoEngine, PlannedFailure
from serving.engines.endpoints import Endpoints, addressed
from serving.engines.engine import Engine
from serving.engines.fields import VLLM_ONLY, Fields
from serving.engines.http import HttpEngine
from serving.engines.waiting import HoldLimits, NoStartTimes, StartTimes, WaitingRoom
from serving.guards.blocklist import BadBlocklist, Blocklist, lines_of
from serving.guards.categories import DEFAULT_THRESHOLDS, Analysis, ContentSafety, OpenAIModeration
from serving.guards.guard import Guard
from serving.guards.guarded import GuardedEngine
from serving.guards.identifiers import IDENTIFIERS
from serving.guards.moderation import ModerationGuard
from serving.guards.pii import PiiGuard
from serving.routing.router import Router
from serving.routing.rules import PowerOfTwo, PrefixAffinity, RoundRobin, Rule
from serving.secret_versions import VersionedSecret
from serving.secrets import Secrets
from serving.settings import Settings, SettingsError
from serving.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)


def build_engines(
    settings: Settings,
    endpoints_of: Callable[[str, Router], Endpoints],
    secrets: Secrets,
    metrics: Metrics,
    starts_of: Callable[[str], StartTimes] = lambda name: NoStartTimes(),
    deaths: Deaths | None = None,
) -> dict[str, Engine]:
    """The engine of each deployment as the gateway sees it, by name. endpoints_of: where its replicas are.
    starts_of: what their starts took. deaths: what is known of requests that replicas die of.

    Raises SettingsError for what only shows when it is used: a list that cannot be read, a variable that is not set.
    """
    guards = {guard.name: build_guard(guard) for guard in settings.guards}
    engines: dict[str, Engine] = {}
    for deployment in settings.deployments:
        engine = build_engine(deployment, settings, endpoints_of, secrets, metrics, starts_of, deaths)
        if deployment.guards:
            engine = GuardedEngine(
                engine,
                [guards[name] for name in deployment.guards],
                on_decision=functools.partial(metrics.noted, "guard_decisions", deployment.name),
            )
        engines[deployment.name] = engine
    return engines


def check_backends(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """What would stop each gateway replica from starting, before any is started. Raises SettingsError."""
    for guard in settings.guards:
        build_guard(guard, environ)
    for deployment in settings.deployments:
        if isinstance(deployment.engine, config.HttpEngine):
            _credential(deployment.name, deployment.engine, environ).close()


class EngineSecret:
    """Credential for replicas of ours: the version that writes now. They have known it for longer."""

    def __init__(self, secret: VersionedSecret) -> None:
        self._secret = secret

    async def headers(self) -> dict[str, str]:
        return {SECRET_HEADER: self._secret.writing.text}

    def close(self) -> None: ...


def build_engine(
    deployment: config.Deployment,
    settings: Settings,
    endpoints_of: Callable[[str, Router], Endpoints],
    secrets: Secrets,
    metrics: Metrics,
    starts_of: Callable[[str], StartTimes],
    deaths: Deaths | None = None,
) -> Engine:
    engine = deployment.engine
    http = functools.partial(
        HttpEngine,
        first_token_timeout=settings.server.first_token_timeout,
        idle_timeout=settings.server.idle_timeout,
        answer_timeout=settings.server.answer_timeout,
    )
    if deployment in settings.replicated:
        return http(
            endpoints_of(deployment.name, build_router(deployment, metrics)),
            model=deployment.name,
            headers=proof_headers(),
            credential=EngineSecret(secrets.engine),
            ours=True,
            ready_path="/health",
            room=WaitingRoom(
                HoldLimits(**deployment.hold.model_dump()),
                starts=starts_of(deployment.name),
                on_count=functools.partial(metrics.holds, deployment.name),
                on_end=functools.partial(metrics.held, deployment.name),
            ),
            deaths=deaths,
            on_retry=functools.partial(metrics.noted, "replica_retries", deployment.name),
            on_fatal=functools.partial(metrics.noted, "fatal_requests", deployment.name),
        )
    if isinstance(engine, config.HttpEngine):
        model = engine.model or deployment.name
        endpoint, address = addressed(engine.url, model=model, api_version=engine.api_version)
        takes_extensions = not engine.is_azure if engine.vllm_fields is None else engine.vllm_fields
        return BreakingEngine(
            http(
                endpoint,
                model=model,
                address=address,
                credential=_credential(deployment.name, engine, os.environ),
                fields=Fields(drop=() if takes_extensions else VLLM_ONLY, rename=engine.rename),
            ),
            **engine.breaker.model_dump(),
            on_change=functools.partial(metrics.noted, "breaker_changes", deployment.name),
        )
    assert isinstance(engine, config.EchoEngine)
    return echo_engine(engine)


def echo_engine(engine: config.EchoEngine) -> EchoEngine:
    return EchoEngine(
        first_token=engine.first_token,
        inter_token=engine.inter_token,
        max_model_len=engine.max_model_len,
        slots=engine.slots,
        prefill_rate=engine.prefill_rate,
        failures=[PlannedFailure(f.when, f.action, f.after) for f in engine.failures],
    )


def build_router(deployment: config.Deployment, metrics: Metrics) -> Router:
    fair = PowerOfTwo(random.Random())  # noqa: S311  # no secret: which of two replicas
    rules: dict[str, Callable[[], Rule]] = {
        "prefix": lambda: PrefixAffinity(fair),
        "power-of-two": lambda: fair,
        "round-robin": RoundRobin,
    }
    return Router(
        rules[deployment.routing](),
        on_choice=lambda choice: metrics.noted("routed", deployment.name, choice.why),
    )


def _credential(deployment: str, engine: config.HttpEngine, environ: Mapping[str, str]) -> Credential:
    if engine.entra:
        return TokenCredential(
            EntraTokens(scope=engine.entra_scope),
            on_failure=lambda reason: _log.warning("deployment %s: Entra ID: %s", deployment, reason),
        )
    if engine.key_env is None:
        return NoCredential()
    header = engine.key_header or ("api-key" if engine.api_version else "authorization")
    try:
        return KeyCredential(_key_in(engine.key_env, environ), header=header)
    except ValueError as error:
        raise SettingsError(f"deployment '{deployment}': {engine.key_env}: {error}") from None


def _key_in(variable: str, environ: Mapping[str, str]) -> str:
    key = environ.get(variable, "").strip()
    if not key:
        raise ValueError("is empty or not set; it must hold the key")
    return key


def build_guard(guard: config.Guard, environ: Mapping[str, str] = os.environ) -> Guard:
    """Raises SettingsError."""
    stages = frozenset(guard.stages)
    if isinstance(guard, config.BlocklistGuard):
        terms = [*guard.terms]
        patterns = [(f"pattern {number}", pattern) for number, pattern in enumerate(guard.patterns, start=1)]
        try:
            if guard.terms_file:
                terms += [entry for _, entry in lines_of(guard.terms_file)]
            if guard.patterns_file:
                patterns += lines_of(guard.patterns_file)
            return Blocklist(
                guard.name, terms=terms, patterns=patterns, mode=guard.mode, stages=stages, window=guard.window
            )
        except BadBlocklist as error:
            raise SettingsError(f"guards: {error}") from None
    if isinstance(guard, config.PiiGuard):
        return PiiGuard(
            guard.name,
            kinds=guard.kinds or tuple(IDENTIFIERS),
            record_prefixes=guard.record_prefixes,
            mode=guard.mode,
            stages=stages,
        )
    return ModerationGuard(
        guard.name,
        url=guard.url,
        analysis=_analysis(guard),
        headers=_moderation_headers(guard, environ),
        mode=guard.mode,
        stages=stages,
        timeout=guard.timeout,
        concurrency=guard.concurrency,
        step=guard.step,
        when_away=guard.when_away,
    )


def _analysis(guard: config.ModerationGuard) -> Analysis:
    thresholds = guard.thresholds or DEFAULT_THRESHOLDS
    return (
        ContentSafety(thresholds)
        if guard.service == "content_safety"
        else OpenAIModeration(thresholds, model=guard.model)
    )


def _moderation_headers(guard: config.ModerationGuard, environ: Mapping[str, str]) -> dict[str, str]:
    if guard.key_env is None:
        return {}
    try:
        key = _key_in(guard.key_env, environ)
    except ValueError as error:
        raise SettingsError(f"guards: '{guard.name}': {guard.key_env}: {error}") from None
    return (
        {"ocp-apim-subscription-key": key} if guard.service == "content_safety" else {"authorization": f"Bearer {key}"}
    )
