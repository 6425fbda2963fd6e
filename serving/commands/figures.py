"""What `clinserve top` shows, worked out from two readings of a server."""

from __future__ import annotations

from dataclasses import dataclass

from serving.commands.running import Reading
from serving.commands.status import replicas_of, state_of
from serving.engines.refusals import EngineBusy
from serving.errors import TooManyRequests
from serving.telemetry.scrape import Scrape
from serving.tenants.quotas import BudgetExhausted, QuotaExceeded, RequestTooLarge

_TTFT = "gen_ai_server_time_to_first_token_seconds"
_FINE = {"ok", "client_left"}
_REFUSED = {kind.code for kind in (TooManyRequests, QuotaExceeded, BudgetExhausted, RequestTooLarge, EngineBusy)}


@dataclass(frozen=True, slots=True)
class Row:
    """A deployment. Of the engine, from vLLM's own metrics: queue, and kv, the part of its cache in use; None for an
    engine that tells nothing. tokens: generated a second. ttft: median and 95th percentile, seconds. refused: 429s a
    minute. failed: all that ended otherwise than well, a minute, but for these and for clients that left.
    """

    name: str
    state: str
    replicas: str
    in_flight: int
    queue: int | None
    kv: float | None
    requests: float
    tokens: float
    ttft: tuple[float, float] | None
    refused: float
    failed: float


def rows(now: Reading, before: Reading) -> list[Row]:
    """One for each deployment; rates are those between the readings."""
    seconds = max(now.at - before.at, 0.001)
    grown = now.metrics.since(before.metrics)
    # vLLM counts tokens as they come, the gateway when an answer has ended.
    tokens = grown.by("deployment", "clinserve_tokens_total", type="completion")
    tokens |= grown.by("model_name", "vllm:generation_tokens_total")
    queue = now.metrics.by("model_name", "vllm:num_requests_waiting")
    cache = now.metrics.highest("model_name", "vllm:kv_cache_usage_perc")

    def row(deployment: dict[str, object]) -> Row:
        name = str(deployment["name"])
        outcomes = grown.by("outcome", "clinserve_requests_total", deployment=name)
        return Row(
            name=name,
            state=state_of(deployment),
            replicas=replicas_of(deployment),
            in_flight=now.in_flight.get(name, 0),
            queue=int(queue[name]) if name in queue else None,
            kv=cache.get(name),
            requests=sum(outcomes.values()) / seconds,
            tokens=tokens.get(name, 0.0) / seconds,
            ttft=_ttft(grown, name),
            refused=sum(n for outcome, n in outcomes.items() if outcome in _REFUSED) * 60 / seconds,
            failed=sum(n for outcome, n in outcomes.items() if outcome not in _REFUSED | _FINE) * 60 / seconds,
        )

    return [row(deployment) for deployment in now.deployments]


def _ttft(grown: Scrape, deployment: str) -> tuple[float, float] | None:
    half, most = (grown.quantile(share, _TTFT, deployment=deployment) for share in (0.5, 0.95))
    return None if half is None or most is None else (half, most)
