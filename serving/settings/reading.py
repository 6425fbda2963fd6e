"""From a YAML file and the environment to the tree, and how a mistake in them is explained."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from serving.settings.deployments import Adapter, Adapters, Deployment, Pinned
from serving.settings.guards import BlocklistGuard
from serving.settings.scaling import Scaling
from serving.settings.tree import KINDS, Settings, sections_in
from serving.settings.values import SettingsError

ENVIRONMENT_PREFIX = "CLINSERVE_"

_Pinned = TypeVar("_Pinned", bound=Pinned)


def load(path: Path, environ: Mapping[str, str] = os.environ, *, elsewhere: bool = False) -> Settings:
    """Read and validate the file at `path` with `environ` over it.

    Relative model directories become absolute (from the file's folder), as do `state_dir`, `weights.folder` and
    `batches.folder` (from the working directory), because replicas run elsewhere. `elsewhere`: see parse. Raises
    SettingsError with every problem found.
    """
    return parse(read(path, environ), base=path.resolve().parent, origin=str(path), elsewhere=elsewhere)


def read(path: Path, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The tree of the file at `path` with `environ` over it, as it is written and unchecked. Raises SettingsError."""
    tree = _yaml(path) or {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: expected settings at the top, such as 'deployments:'")
    _override(tree, environ)
    return tree


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML: {error}") from error


def parse(
    tree: Mapping[str, Any], *, base: Path = Path(), origin: str = "settings", elsewhere: bool = False
) -> Settings:
    """Validate a settings tree as read from YAML; see `load` for what becomes absolute. Raises SettingsError.

    elsewhere: its directories are those of other machines, and not looked for here.
    """
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{origin}: {line}" for line in _explain(error))) from None
    server = settings.server.model_copy(update={"state_dir": settings.server.state_dir.absolute()})
    deployments = tuple(_located(d, base, origin, elsewhere) for d in settings.deployments)
    folder = settings.weights.folder
    weights = settings.weights.model_copy(update={"folder": folder and folder.absolute()})
    kept = settings.batches.folder
    batches = settings.batches.model_copy(update={"folder": kept and kept.absolute()})
    guards = tuple(_beside(g, base) if isinstance(g, BlocklistGuard) else g for g in settings.guards)
    return settings.model_copy(
        update={
            "server": server,
            "weights": weights,
            "batches": batches,
            "deployments": deployments,
            "guards": guards,
        }
    )


def adapters_of(deployment: Deployment) -> tuple[Adapter, ...]:
    """The deployment's adapters as they are now: of the configuration, then of its file. Raises SettingsError."""
    listed = deployment.adapters
    if file := deployment.adapters_file:
        read = _yaml(file)
        try:
            more = Adapters.model_validate({"adapters": [] if read is None else read}).adapters
        except ValidationError as error:
            raise SettingsError("\n".join(f"{file}: {line}" for line in _explain(error, Adapters))) from None
        listed += tuple(_at_home(adapter, file.parent, str(file), elsewhere=False) for adapter in more)
    names = [adapter.name for adapter in listed]
    if len(set(names)) < len(names):
        raise SettingsError(f"{deployment.adapters_file or deployment.name}: two adapters have the same name")
    return listed


def _located(deployment: Deployment, base: Path, origin: str, elsewhere: bool) -> Deployment:
    file = deployment.adapters_file
    located = deployment.model_copy(
        update={
            "model": _at_home(deployment.model, base, origin, elsewhere),
            "adapters": tuple(_at_home(adapter, base, origin, elsewhere) for adapter in deployment.adapters),
            "adapters_file": file and (base / file).absolute(),  # not resolved: Kubernetes swaps a link
            "scaling": deployment.scaling and _profiled(deployment.scaling, base),
        }
    )
    if not elsewhere:
        adapters_of(located)
    return located


def _profiled(scaling: Scaling, base: Path) -> Scaling:
    """Its profile, relative to the configuration's folder, becomes absolute."""
    return scaling.model_copy(update={"profile": scaling.profile and (base / scaling.profile).resolve()})


def _beside(guard: BlocklistGuard, base: Path) -> BlocklistGuard:
    """Its files, relative to the configuration's folder, become absolute."""
    files = {"terms_file": guard.terms_file, "patterns_file": guard.patterns_file}
    return guard.model_copy(update={name: file and (base / file).resolve() for name, file in files.items()})


def _at_home(pinned: _Pinned, base: Path, origin: str, elsewhere: bool) -> _Pinned:
    return pinned.model_copy(update={"source": _locate(pinned, base, origin, elsewhere)})


def _locate(model: Pinned, base: Path, origin: str, elsewhere: bool) -> str:
    """A directory becomes absolute; anything else is taken for a Hugging Face id."""
    if not model.source or "://" in model.source:
        return model.source
    directory = (base / model.source).resolve()
    looks_like_a_path = model.source.startswith((".", "/"))
    if not directory.is_dir() and not looks_like_a_path:
        return model.source
    if not elsewhere and not directory.is_dir():
        raise SettingsError(f"{origin}: model.source: there is no directory {directory}")
    if model.revision:
        raise SettingsError(f"{origin}: model.revision: a directory has no revision; it belongs to a Hugging Face id")
    return str(directory)


def _override(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Lay `CLINSERVE_SECTION__NAME=value` over the tree; single names (CLINSERVE_CONFIG, secrets) are not settings."""
    for name, value in environ.items():
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if not name.startswith(ENVIRONMENT_PREFIX) or len(path) < 2:
            continue
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise SettingsError(f"{name}: {part} is a list or a value; the environment can only set single values")
        try:
            node[path[-1]] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise SettingsError(f"{name}: not valid YAML; put the value in quotes") from None


def _explain(error: ValidationError, whole: type[BaseModel] = Settings) -> list[str]:
    lines = []
    problems = error.errors(include_url=False, include_input=False)
    for problem in problems:
        if problem["type"] == "too_short" and len(problems) > 1:
            continue  # "at least one deployment", because none of them is valid: those are listed
        at = problem["loc"]
        place = [part for index, part in enumerate(at) if not _is_tag(part, at[index - 1])]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        if problem["type"] == "extra_forbidden":
            known = _names_at(problem["loc"][:-1], whole)
            near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known here: {', '.join(known)}"
            lines.append(f"{where}: unknown setting{hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {message}" if where else message)
    return lines


def _is_tag(part: int | str, before: int | str) -> bool:
    """Pydantic puts the kind ("vllm") behind "engine" or a guard's number; users do not write it."""
    return part in KINDS and (before == "engine" or isinstance(before, int))


def _names_at(location: tuple[int | str, ...], whole: type[BaseModel]) -> list[str]:
    """The settings known at a location of pydantic's, by walking the classes along it."""
    section = whole
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            section = next(iter(sections_in(section.model_fields[part].annotation)), section)
        elif part in KINDS:
            section = KINDS[str(part)]
    return list(section.model_fields)
