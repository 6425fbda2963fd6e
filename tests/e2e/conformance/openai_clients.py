"""The clients that users of the `openai` package for Python make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai

from tests.e2e.conformance.scenarios import SITE

VERSION = "2024-10-21"
Client = openai.OpenAI
Make = Callable[..., Client]


def plain(key: str = "any", **options: Any) -> Client:
    return openai.OpenAI(**{"base_url": f"{SITE.url}/v1", "api_key": SITE.keys.get(key, key), "timeout": 60} | options)


def at_azure_v1(key: str = "any", **options: Any) -> Client:
    """As Azure's own documentation has it now: no version, no special client."""
    return plain(key, **{"base_url": f"{SITE.url}/openai/v1/"} | options)


def azure(key: str = "any", **options: Any) -> Client:
    given = {"azure_endpoint": SITE.url, "api_key": SITE.keys.get(key, key), "api_version": VERSION, "timeout": 60}
    return openai.AzureOpenAI(**given | options)


def azure_with_base_url(key: str = "any", **options: Any) -> Client:
    """A common mistake: the client puts the deployment into a path that has none."""
    key = SITE.keys.get(key, key)
    return openai.AzureOpenAI(
        **{"base_url": f"{SITE.url}/openai/v1/", "api_key": key, "api_version": VERSION} | options
    )


CLIENTS: dict[str, Make] = {
    "OpenAI": plain,
    "OpenAI at /openai/v1": at_azure_v1,
    "AzureOpenAI": azure,
    "AzureOpenAI at /openai/v1": azure_with_base_url,
}
