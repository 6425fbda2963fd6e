"""GET /openai/deployments and /openai/deployments/{name}: the deployments as Azure OpenAI lists them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from serving.gateway.caller import SignedIn
from serving.gateway.catalog import Catalog, Deployment
from serving.gateway.names import PathName
from serving.gateway.parts import Gateway


class AzureDeployment(BaseModel):
    """The shape of api-version 2022-12-01, which later ones dropped and tools still ask for. Times: Unix seconds."""

    id: str
    model: str
    owner: str = "clinserve"
    status: Literal["succeeded"] = "succeeded"
    created_at: int
    updated_at: int
    object: Literal["deployment"] = "deployment"
    scale_settings: dict[str, Any] = {"scale_type": "standard"}


class AzureDeployments(BaseModel):
    object: Literal["list"] = "list"
    data: list[AzureDeployment]


async def list_deployments(caller: SignedIn, gateway: Gateway) -> AzureDeployments:
    """The deployments that the caller may call."""
    catalog = gateway.catalog
    return AzureDeployments(data=[_shown(deployment, catalog) for deployment in catalog.models_of(caller)])


async def show_deployment(deployment: PathName, caller: SignedIn, gateway: Gateway) -> AzureDeployment:
    """One of them. Raises UnknownDeployment, DeploymentNotAllowed."""
    return _shown(gateway.catalog.resolve(deployment, caller), gateway.catalog)


def _shown(deployment: Deployment, catalog: Catalog) -> AzureDeployment:
    made = catalog.created
    return AzureDeployment(id=deployment.model, model=deployment.name, created_at=made, updated_at=made)
