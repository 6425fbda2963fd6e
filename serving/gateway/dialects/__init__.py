"""The ways in which clients speak to the gateway: OpenAI's, Azure OpenAI's, Azure AI Model Inference's.

A dialect is a thin translation around the one request path (../chat.py): what paths it has (routes.py), how it reads a
body, how it says that something went wrong, which headers its clients look for. A new one touches this folder only.
"""

from serving.gateway.dialects.azure import AzureOpenAI
from serving.gateway.dialects.dialect import Dialect
from serving.gateway.dialects.inference import ModelInference
from serving.gateway.dialects.openai import OpenAI

__all__ = ["AzureOpenAI", "Dialect", "ModelInference", "OpenAI", "dialects"]


def dialects(region: str = "") -> tuple[Dialect, ...]:
    """All of them, the most particular first. region: what Azure's clients see in x-ms-region."""
    return AzureOpenAI(region), ModelInference(region), OpenAI()
