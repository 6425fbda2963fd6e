"""The catalogue: clinical models that are known here, one YAML file each, closed and validated.

A fact is worth what its source is, so `checked` says for each group whether it was read somewhere or remembered.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.sizing.architecture import Architecture, architecture_of
from serving.sizing.errors import SizingError, UnknownModel, UnreadableModel, nearest

BUNDLED = Path(__file__).parents[2] / "deploy" / "catalog"
UNPINNED = "pin before use"

# Of a config.json, what memory and speed depend on, under its own names; nothing else belongs into an entry.
_SIZES = {
    "architectures", "model_type", "torch_dtype", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
    "tie_word_embeddings", "sliding_window", "sliding_window_pattern", "layer_types", "use_sliding_window",
    "max_window_layers", "num_experts", "num_experts_per_tok", "moe_intermediate_size", "quantization_config",
    "text_config", "vision_config", "mm_tokens_per_image", "image_size", "patch_size", "query_pre_attn_scalar",
}  # fmt: skip

Fact = Annotated[str, Field(pattern=r"^(read|base read|memory): .+")]
"""`read`: in a source that is named. `base read`: of the model that this one was made from. `memory`: neither."""


class CatalogError(SizingError):
    """A file of the catalogue cannot be used; one problem a line."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Licence(_Closed):
    """clinical_use: what it, or the model's card, says of use on patients."""

    name: str
    url: str = Field(pattern=r"^https://")
    gated: bool
    clinical_use: str


class Checked(_Closed):
    source: Fact
    revision: Fact
    licence: Fact
    template: Fact
    config: Fact


class Entry(_Closed):
    """A model. source: its Hugging Face id. revision: a commit that was seen, or 'pin before use'. serves: whether it
    has a chat template. context: tokens that it was made for. template: what is unusual about prompts and answers.
    engine: arguments of vLLM that it needs. config: the numbers of its config.json.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    source: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(pattern=rf"^([0-9a-f]{{40}}|{UNPINNED})$")
    licence: Licence
    serves: Literal["chat", "base"]
    context: int = Field(gt=0)
    template: tuple[str, ...]
    engine: dict[str, Any] = Field(default_factory=dict)
    checked: Checked
    config: dict[str, Any]

    @model_validator(mode="after")
    def _the_numbers_are_those_of_a_model(self) -> Self:
        for group in (self.config, self.config.get("text_config", {}), self.config.get("vision_config", {})):
            for name in group:
                if name not in _SIZES:
                    near = difflib.get_close_matches(name, _SIZES, n=1)
                    raise ValueError(f"config.{name}: not a size" + (f"; did you mean '{near[0]}'?" if near else ""))
        try:
            most = architecture_of(self.config).context
        except UnreadableModel as error:
            raise ValueError(f"config: {error}") from None
        if self.context > most:
            raise ValueError(f"context: more than max_position_embeddings, {most}")
        return self

    @property
    def architecture(self) -> Architecture:
        """With the context that the model was made for, which may be less than its positions."""
        return replace(architecture_of(self.config), context=self.context)

    @property
    def commit(self) -> str | None:
        return None if self.revision == UNPINNED else self.revision


def catalog(folder: Path = BUNDLED) -> Mapping[str, Entry]:
    """All entries by name, in its order. Raises CatalogError."""
    entries = [_read(file) for file in sorted(folder.glob("*.yaml"))]
    if not entries:
        raise CatalogError(f"there is no catalogue in {folder}")
    return {entry.name: entry for entry in entries}


def entry_named(name: str, entries: Mapping[str, Entry]) -> Entry:
    """By its name or its Hugging Face id. Raises UnknownModel."""
    wanted = name.removeprefix("hf://").lower()
    for entry in entries.values():
        if wanted in (entry.name, entry.source.lower()):
            return entry
    near = nearest(wanted.rpartition("/")[2], entries, "'clinserve plan' lists the catalogue")
    raise UnknownModel(f"no model '{name}' is in the catalogue, and there is no such directory: {near}")


def _read(file: Path) -> Entry:
    try:
        entry = Entry.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogError(f"{file.name}: not readable as YAML: {error}") from error
    except ValidationError as error:
        raise CatalogError("\n".join(f"{file.name}: {line}" for line in _problems(error))) from None
    if entry.name != file.stem:
        raise CatalogError(f"{file.name}: name: '{entry.name}' is not the file's")
    return entry


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = [*Entry.model_fields, *Licence.model_fields, *Checked.model_fields]
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            message = "unknown" + (f"; did you mean '{near[0]}'?" if near else "")
        lines.append(f"{where}: {message}" if where else message)
    return lines
