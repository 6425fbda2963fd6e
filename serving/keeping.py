"""The assembly's part for responses that are kept.

settings ── bounds ────────┐
governance ─ policies ─────┼─ responses ── unattended ── Parts, for the routes
secrets ─── sealing ───────┘
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.governance import Governance
from serving.jobs import build_room
from serving.responses.background import Background
from serving.responses.responses import Bounds, Responses
from serving.responses.sql import SqlResponses
from serving.sealing import Sealer
from serving.secrets import Secrets
from serving.settings import Settings
from serving.tenants.keys import utcnow
from serving.tenants.trail import Trail


@dataclass(frozen=True, slots=True)
class Keeping:
    responses: Responses
    unattended: Background


def build_keeping(settings: Settings, secrets: Secrets, governance: Governance) -> Keeping:
    of = settings.responses
    store = SqlResponses(governance.database)
    responses = Responses(
        store,
        Sealer(secrets.content),
        Trail(governance.audit, utcnow),
        Bounds(of.max_size, of.max_stored, of.max_chain, of.max_history),
        keeps=governance.policies.keeps,
        now=utcnow,
        check_room=build_room(settings).check,
    )
    return Keeping(responses, Background(store, responses, most=of.max_background, now=utcnow))
