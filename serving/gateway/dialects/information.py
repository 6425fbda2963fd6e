"""GET /models/info: which model answers, for `load_client` of azure-ai-inference (azure-wire-format, part 2)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from serving.errors import ModelMissing
from serving.gateway.caller import SignedIn
from serving.gateway.names import QueryName
from serving.gateway.parts import Gateway


class ModelInformation(BaseModel):
    model_name: str
    model_type: Literal["chat_completion", "embeddings"]
    model_provider_name: str = "clinserve"


async def model_information(caller: SignedIn, gateway: Gateway, model: QueryName = None) -> ModelInformation:
    """The deployment that `?model=` names; without it the only one that the caller may call.

    Raises ModelMissing, UnknownDeployment, DeploymentNotAllowed.
    """
    mine = gateway.catalog.open_to(caller)
    if model is None and len(mine) != 1:
        raise ModelMissing("Several deployments are served here: name one with '?model='.", param="model")
    deployment = gateway.catalog.resolve(model, caller) if model is not None else mine[0]
    kind: Literal["chat_completion", "embeddings"] = (
        "chat_completion" if "chat" in deployment.operations else "embeddings"
    )
    return ModelInformation(model_name=deployment.model, model_type=kind)
