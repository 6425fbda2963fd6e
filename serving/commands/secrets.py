"""`clinserve secrets`: a Kubernetes Secret with all that an installation needs to keep, new and at random."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

import yaml

from serving.secrets import OPTIONAL, REQUIRED, vault_name
from serving.tenants.key_text import new_key_text

ADMIN_KEY, DEMO_KEY = "admin-key", "demo-key"
RAY_TOKEN = "auth_token"
"""Where KubeRay looks for the token of Ray's control plane."""


def manifest(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """What `kubectl apply -f -` takes. A variable that is set, such as CLINSERVE_DATABASE_PASSWORD, is taken over."""
    variables = (*REQUIRED.values(), *OPTIONAL.values())
    values = {vault_name(variable): environ.get(variable) or secrets.token_hex(32) for variable in variables}
    values |= {ADMIN_KEY: new_key_text().reveal(), DEMO_KEY: new_key_text().reveal(), RAY_TOKEN: secrets.token_hex(32)}
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "stringData": values},
        sort_keys=False,
    )
