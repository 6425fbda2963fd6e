"""Content filters: what they look for, and what they do about it (docs/guards.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from serving.settings.values import Seconds, Section

Mode = Literal["annotate", "block"]
Stage = Literal["prompt", "answer"]
Severity = Literal["low", "medium", "high"]
Identifier = Literal["email", "phone", "us_ssn", "credit_card", "iban", "nhs_number", "kvnr", "ip_address"]
_MODE = "`annotate`: tell the client what was found. `block`: and refuse the prompt, or end the answer."
_STAGES = "Whether prompts, answers or both are looked at."


class BlocklistGuard(Section):
    """Terms and regular expressions that must not occur."""

    kind: Literal["blocklist"] = Field(description="Selects this guard.")
    name: str = Field(min_length=1, max_length=64, description="How deployments, clients and metrics call it.")
    terms: tuple[str, ...] = Field((), description="Terms, found in any case and as whole words.")
    terms_file: Path | None = Field(
        None, description="More terms, one a line; relative to the configuration file. Read at the start."
    )
    patterns: tuple[str, ...] = Field((), description="Regular expressions of RE2, whose time is linear in the text.")
    patterns_file: Path | None = Field(None, description="More regular expressions, likewise.")
    window: int = Field(
        128, ge=1, le=4096, description="Characters of the longest match of a regular expression that counts."
    )
    mode: Mode = Field("block", description=_MODE)
    stages: tuple[Stage, ...] = Field(("prompt", "answer"), min_length=1, description=_STAGES)


class PiiGuard(Section):
    """Personal identifiers by pattern and check digit; no names."""

    kind: Literal["pii"] = Field(description="Selects this guard.")
    name: str = Field(min_length=1, max_length=64, description="How deployments and metrics call it.")
    kinds: tuple[Identifier, ...] | None = Field(None, description="What is looked for. Default: all that are known.")
    record_prefixes: tuple[str, ...] = Field(
        (), description="What your medical record numbers begin with, such as MRN; none: they are not looked for."
    )
    mode: Mode = Field("annotate", description=_MODE)
    stages: tuple[Stage, ...] = Field(("prompt", "answer"), min_length=1, description=_STAGES)


class ModerationGuard(Section):
    """A moderation service of yours. It sees the text: it must be one that may."""

    kind: Literal["moderation"] = Field(description="Selects this guard.")
    name: str = Field(min_length=1, max_length=64, description="How deployments and metrics call it.")
    service: Literal["content_safety", "openai"] = Field(
        description="`content_safety`: Azure AI Content Safety's text:analyze. `openai`: the shape of /v1/moderations."
    )
    url: str = Field(pattern=r"^https?://", description="Where to POST, whole, with its api-version.")
    key_env: str | None = Field(None, description="Environment variable that holds the service's key.")
    model: str = Field("", description="The model to ask for, with `openai`. Default: the service's own.")
    thresholds: dict[str, Severity] | None = Field(
        None, description="By category, the severity from which it blocks. Default: medium, for each harm."
    )
    timeout: Seconds = Field(3.0, gt=0, description="Longest wait for one of its answers.")
    concurrency: int = Field(32, ge=1, description="Calls at a time, of one gateway replica.")
    step: int = Field(1000, ge=100, le=10_000, description="Characters of an answer that are sent at a time.")
    when_away: Literal["refuse", "pass"] = Field(
        "refuse", description="It cannot be asked: `refuse` answers 503, `pass` lets the text through, marked so."
    )
    mode: Mode = Field("block", description=_MODE)
    stages: tuple[Stage, ...] = Field(("prompt", "answer"), min_length=1, description=_STAGES)


GUARDS: dict[str, type[Section]] = {
    "blocklist": BlocklistGuard,
    "pii": PiiGuard,
    "moderation": ModerationGuard,
}
Guard = Annotated[BlocklistGuard | PiiGuard | ModerationGuard, Field(discriminator="kind")]
