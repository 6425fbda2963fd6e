"""LoRA adapters by name: what clients call them, and what replicas do."""

from __future__ import annotations

from dataclasses import dataclass

SEPARATOR = ":"
"""No deployment's name has it, so `clinical-demo:radiology` can only be an adapter."""
_DIGEST_LETTERS = 12


@dataclass(frozen=True, slots=True)
class Adapter:
    """One of a deployment's. digest: of its weights, `sha256:...`."""

    deployment: str
    name: str
    digest: str
    notice: str | None = None

    @property
    def model(self) -> str:
        """What clients write in `model`."""
        return f"{self.deployment}{SEPARATOR}{self.name}"

    @property
    def loaded(self) -> str:
        """What a replica calls it, and its answers: other weights under the same name are another adapter, whose
        requests share neither a batch nor the KV cache with the old one's.
        """
        return f"{self.model}@{self.digest.removeprefix('sha256:')[:_DIGEST_LETTERS]}"


def deployment_of(model: str) -> str:
    """The deployment that serves what a client writes in `model`."""
    return model.partition(SEPARATOR)[0]
