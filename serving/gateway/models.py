"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from fastapi import APIRouter

from serving.gateway.caller import SignedIn
from serving.gateway.catalog import Catalog, Deployment
from serving.gateway.names import PathName
from serving.gateway.parts import Gateway
from serving.protocol.openai import ModelCard, ModelList

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def list_models(caller: SignedIn, gateway: Gateway) -> ModelList:
    """The deployments that the caller may call, and their adapters."""
    return ModelList(data=[_card(deployment, gateway.catalog) for deployment in gateway.catalog.models_of(caller)])


@router.get("/v1/models/{name}")
async def get_model(name: PathName, caller: SignedIn, gateway: Gateway) -> ModelCard:
    """One deployment."""
    return _card(gateway.catalog.resolve(name, caller), gateway.catalog)


def _card(deployment: Deployment, catalog: Catalog) -> ModelCard:
    return ModelCard(
        id=deployment.model,
        created=catalog.created,
        parent=deployment.name if deployment.adapter else None,
        description=deployment.notice,
    )
