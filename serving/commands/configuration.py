"""Which configuration a verb works on: `--config FILE`, before or after the verb; else CLINSERVE_CONFIG; else the demo.

A verb that reads no configuration refuses the option: ignored, it would answer for another file than the one named.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from serving.commands.office import Office

DEFAULT_CONFIG = Path("deploy/configs/demo.yaml")
VARIABLE = "CLINSERVE_CONFIG"

Verb = TypeVar("Verb", bound=Callable[..., Any])


class ConfigurationFile:
    """The file, once the command line is read; it is the context's `obj` for all verbs. open_office: opens what
    administrative verbs work with, on a file.
    """

    def __init__(self, before_verb: Path | None, open_office: Callable[[Path], Office]) -> None:
        self._named = before_verb
        self._open_office = open_office

    @property
    def path(self) -> Path:
        return self._named or Path(os.environ.get(VARIABLE) or DEFAULT_CONFIG)

    def open_office(self) -> Office:
        return self._open_office(self.path)

    def name_after_verb(self, path: Path) -> None:
        """Raises BadParameter where two files are named."""
        if self._named not in (None, path):
            raise typer.BadParameter("two files are named: name one, before or after the verb.")
        self._named = path

    def refuse(self, verb: str) -> None:
        """Raises BadParameter where a file is named."""
        if self._named is not None:
            raise typer.BadParameter(f"'{verb}' reads no configuration. Leave --config out.")


def path_of(context: typer.Context) -> Path:
    """The configuration of the verb that runs."""
    file: ConfigurationFile = context.find_root().obj
    return file.path


def _name(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        context.find_root().obj.name_after_verb(path)
    return path


def _refuse(context: typer.Context, path: Path | None) -> None:
    file: ConfigurationFile = context.find_root().obj
    if path is not None:
        file.name_after_verb(path)
    file.refuse(context.command_path)


HELP = f"The configuration, one YAML file. Default: ${VARIABLE}, else {DEFAULT_CONFIG}."
Config = Annotated[Path | None, typer.Option("--config", "-c", help=HELP, show_default=False)]
_Named = Annotated[Path | None, typer.Option("--config", "-c", help=HELP, show_default=False, callback=_name)]
_Refused = Annotated[Path | None, typer.Option("--config", "-c", hidden=True, callback=_refuse)]


class Verbs(typer.Typer):
    """Verbs that all take `--config`. reads_configuration=False: this one refuses it."""

    def command(
        self, name: str | None = None, *, reads_configuration: bool = True, **options: Any
    ) -> Callable[[Verb], Verb]:
        return _adding(super().command(name, **options), _Named if reads_configuration else _Refused)

    def group(self, **options: Any) -> Callable[[Verb], Verb]:
        """As Typer's `callback`, for a group that is a verb itself."""
        return _adding(super().callback(**options), _Named)


def _adding(register: Callable[[Callable[..., Any]], object], option: Any) -> Callable[[Verb], Verb]:
    """Registers a verb with one parameter more, which its function does not see."""

    def decorate(verb: Verb) -> Verb:
        signature = inspect.signature(verb, eval_str=True)
        added = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)

        @functools.wraps(verb)
        def without(*args: Any, config: Path | None = None, **kwargs: Any) -> Any:
            return verb(*args, **kwargs)

        parameters = [*signature.parameters.values(), added]
        without.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        without.__annotations__ = {one.name: one.annotation for one in parameters}
        register(without)
        return verb

    return decorate
