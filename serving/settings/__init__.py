"""The one settings tree: what it may say, its defaults, and how a mistake in it is explained.

Read once, by the command line, from one YAML file; environment variables override it (`CLINSERVE_SERVER__PORT=9000`).
Frozen, closed (an unknown name is refused with the nearest right one), and free of secrets: those are in secrets.py.
Parts receive plain values from it in app.py, never the tree. Units: seconds, bytes, tokens; a duration may be written
`30s`, `250ms`, `5m`, a size `4MiB`.
"""

from serving.settings.deployments import Adapter, Deployment, Limits, Model, Price
from serving.settings.engines import EchoEngine, EchoFailure, Engine, GrammarLimits, HttpEngine, VllmEngine
from serving.settings.governance import Audit, Idempotency, Identity, Issuer, Keys, Quotas, TenantLimits, Usage
from serving.settings.guards import BlocklistGuard, Guard, ModerationGuard, PiiGuard
from serving.settings.reading import adapters_of, load, parse, read
from serving.settings.scaling import Scaling, Slo
from serving.settings.server import Batches, Console, Database, Gateway, Responses, Server, Telemetry, Vault, Weights
from serving.settings.tree import METRICS_ABOVE, Settings, reference
from serving.settings.values import Section, SettingsError

__all__ = [
    "METRICS_ABOVE", "Adapter", "Audit", "Batches", "BlocklistGuard", "Console", "Database", "Deployment", "EchoEngine",
    "EchoFailure", "Engine", "Gateway", "GrammarLimits", "Guard", "HttpEngine", "Idempotency", "Identity", "Issuer",
    "Keys", "Limits", "Model", "ModerationGuard", "PiiGuard", "Price", "Quotas", "Responses", "Scaling", "Section",
    "Server", "Settings", "SettingsError", "Slo", "Telemetry", "TenantLimits", "Usage", "Vault", "VllmEngine",
    "Weights", "adapters_of", "load", "parse", "read", "reference",
]  # fmt: skip
