"""The `clinserve` command: its verbs and how their errors are shown. What they do is in commands/."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from serving import __version__
from serving.commands.audit import audit_app
from serving.commands.batch import batch_app
from serving.commands.kept import kept_key
from serving.commands.keys import keys_app
from serving.commands.limits import limits_app
from serving.commands.office import Office
from serving.commands.remote import DEFAULT_URL, CannotAsk, Key, Url
from serving.commands.tenants import tenants_app
from serving.commands.usage import usage_app
from serving.secrets import SecretsError
from serving.settings import Settings, SettingsError
from serving.settings import load as read_settings

DEFAULT_CONFIG = Path("deploy/configs/demo.yaml")
SUPPORTED = ((3, 11), (3, 12))

cli = typer.Typer(
    help="Serve clinical foundation models behind an OpenAI-compatible API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals may hold keys and prompts
)
config_cli = typer.Typer(help="Look at configurations.", no_args_is_help=True)
weights_cli = typer.Typer(help="Fetch, verify and name the weights of deployments.", no_args_is_help=True)
cli.add_typer(config_cli, name="config")
cli.add_typer(weights_cli, name="weights")
cli.add_typer(tenants_app, name="tenants")
cli.add_typer(keys_app, name="keys")
cli.add_typer(limits_app, name="limits")
cli.add_typer(usage_app, name="usage")
cli.add_typer(audit_app, name="audit")
cli.add_typer(batch_app, name="batch")

Config = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="CLINSERVE_CONFIG", help="The configuration, one YAML file.", show_default=True
    ),
]


@cli.callback()
def root(
    context: typer.Context,
    config: Config = DEFAULT_CONFIG,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    context.obj = lambda: _office(config)


@cli.command()
def serve(
    config: Config = DEFAULT_CONFIG,
    host: Annotated[str | None, typer.Option(help="Address to listen on; overrides server.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; overrides server.port.", min=1, max=65535)] = None,
) -> None:
    """Start everything on this machine and stay in the foreground; Ctrl-C stops it all."""
    from serving.app import load_settings
    from serving.commands import serve as command

    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}

    def read() -> Settings:
        settings = load_settings(config)
        return settings.model_copy(update={"server": settings.server.model_copy(update=changes)})

    try:
        command.serve(read)
    except (command.CannotStart, SettingsError) as error:
        fail(str(error))


@cli.command()
def reload(
    config: Config = DEFAULT_CONFIG,
    restart: Annotated[
        list[str] | None, typer.Option(help="A deployment, or 'gateway', to replace although nothing differs.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.", min=1)] = 1800.0,
) -> None:
    """Have the server on this machine read its configuration again: what differs is replaced, and no answer is cut."""
    from serving.commands import reload as command
    from serving.commands.rollout import CannotReload

    try:
        typer.echo(command.reload(load(config).server.state_dir, restart or (), timeout=timeout))
    except CannotReload as error:
        fail(str(error))


@cli.command()
def chat(
    message: Annotated[str | None, typer.Argument(help="Ask once and stop. Without it, a conversation.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    model: Annotated[str | None, typer.Option(help="Deployment. Default: the first one.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    note: Annotated[Path | None, typer.Option(help="A text file that the first message is about.")] = None,
) -> None:
    """Talk to a running server, with streaming."""
    from serving.commands import chat as command

    try:
        command.chat(message, url=url, key=key, model=model, system=system, note=note)
    except CannotAsk as error:
        fail(str(error))


AnyKey = Annotated[
    str | None,
    typer.Option(envvar="CLINSERVE_API_KEY", help="Default: the one in .clinserve/admin.key or demo.key."),
]


@cli.command()
def status(
    url: Url = DEFAULT_URL,
    key: AnyKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say what runs on a server. Exit status: 0 ready, 1 no answer, 2 not ready."""
    from serving.commands import running
    from serving.commands import status as command

    try:
        raise typer.Exit(command.status(url, key or kept_key(url, "admin.key", "demo.key"), as_json=as_json))
    except running.CannotReach as error:
        fail(str(error))


@cli.command()
def top(
    url: Url = DEFAULT_URL,
    key: AnyKey = None,
    every: Annotated[float, typer.Option(help="Seconds from one look to the next.", min=0.1)] = 2.0,
    frames: Annotated[int | None, typer.Option(help="Stop after so many looks.", min=1)] = None,
) -> None:
    """Watch a server: replicas, load, tokens, times, refusals and top tenants. q or Ctrl-C ends it."""
    from serving.commands import running
    from serving.commands import top as command

    try:
        command.top(url, key or kept_key(url, "admin.key", "demo.key"), every=every, frames=frames)
    except running.CannotReach as error:
        fail(str(error))


@cli.command()
def profile(
    context: typer.Context,
    deployment: Annotated[str, typer.Argument(help="One that runs, best with a single replica.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    most: Annotated[int, typer.Option(help="Streams at a time, at most.", min=1)] = 256,
    seconds: Annotated[float, typer.Option(help="Of each number of streams.", min=1.0)] = 6.0,
    out: Annotated[Path | None, typer.Option(help="Default: where the configuration looks for it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Measure what one replica of a deployment can do, for its scaling: a minute or two of real requests."""
    from serving.commands import profile as command
    from serving.commands import running
    from serving.fleets import profile_file

    try:
        settings = read_settings(_config_of(context))
        known = {one.name: one for one in settings.deployments}
        if deployment not in known:
            fail(f"the configuration has no deployment '{deployment}'; it has {', '.join(known)}")
        command.profile(
            deployment,
            url=url,
            key=key or kept_key(url, "demo.key") or fail("no key: pass --key or set CLINSERVE_API_KEY"),
            ttft=known[deployment].slo.ttft_p95 or 2.0,
            tpot=known[deployment].slo.tpot_p95 or 0.1,
            most=most,
            seconds=seconds,
            file=out or profile_file(settings, known[deployment]),
            as_json=as_json,
        )
    except (SettingsError, CannotAsk, running.CannotReach) as error:
        fail(str(error))


@cli.command()
def doctor(
    config: Config = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say what this machine can run and what is missing."""
    from serving.commands import doctor as command

    raise typer.Exit(command.doctor(config, as_json=as_json))


@config_cli.command("check")
def config_check(
    config: Annotated[Path, typer.Argument(envvar="CLINSERVE_CONFIG", help="The file to check.")] = DEFAULT_CONFIG,
) -> None:
    """Read a configuration and say every mistake in it."""
    settings = load(config)
    for deployment in settings.deployments:
        scaling = deployment.scaling
        count = f"{scaling.min} to {scaling.max}" if scaling else deployment.replicas
        facts = (deployment.engine.kind, deployment.model.source, f"replicas {count}")
        typer.echo(f"{deployment.name}: {', '.join(filter(None, facts))}")
    typer.echo(f"{config}: valid")


@config_cli.command("show")
def config_show(
    config: Annotated[Path, typer.Argument(envvar="CLINSERVE_CONFIG", help="The file to read.")] = DEFAULT_CONFIG,
) -> None:
    """Print the settings in force: file, environment and defaults together. Secrets are not part of them."""
    import yaml

    typer.echo(yaml.safe_dump(load(config).model_dump(mode="json"), sort_keys=False), nl=False)


@config_cli.command("reference")
def config_reference() -> None:
    """Print every setting with its default and its meaning, as a Markdown table."""
    from serving.settings import reference

    typer.echo("| setting | default | meaning |\n|---|---|---|")
    for path, default, description in reference():
        typer.echo(f"| `{path}` | {default} | {description} |")


Named = Annotated[str | None, typer.Argument(metavar="[DEPLOYMENT]", help="Default: all whose engine loads weights.")]


@weights_cli.command("pull")
def weights_pull(context: typer.Context, deployment: Named = None) -> None:
    """Fetch and verify weights, so that a replica finds them; an interrupted download goes on where it was."""
    from serving.commands import weights as command

    with _weights_errors():
        command.pull(load(_config_of(context)), deployment)


@weights_cli.command("verify")
def weights_verify(context: typer.Context, deployment: Named = None) -> None:
    """Hash the weights that are on this machine and compare them with what is pinned."""
    from serving.commands import weights as command

    with _weights_errors():
        command.verify(load(_config_of(context)), deployment)


@weights_cli.command("digest")
def weights_digest(directory: Annotated[Path, typer.Argument(help="A directory of weights.")]) -> None:
    """Print a directory's digest, to be pinned as model.digest."""
    from serving.commands import weights as command

    with _weights_errors():
        command.digest(directory)


def _config_of(context: typer.Context) -> Path:
    """Of `clinserve --config FILE weights ...`."""
    return Path(context.find_root().params["config"])


@contextlib.contextmanager
def _weights_errors() -> Iterator[None]:
    from serving.weights.source import WeightsError

    try:
        yield
    except (WeightsError, SettingsError) as error:
        fail(str(error))


def load(path: Path) -> Settings:
    from serving.app import load_settings

    try:
        return load_settings(path)
    except SettingsError as error:
        fail(str(error))


def _office(config: Path) -> Office:
    from serving.app import open_office

    try:
        return open_office(read_settings(config))  # unlike load, without vLLM's arguments: they take a while
    except (SettingsError, SecretsError) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """One problem a line, on standard error, and exit status 1."""
    for line in message.splitlines():
        typer.secho(f"clinserve: {line}", fg="red", err=True)
    raise typer.Exit(1)


def main() -> None:
    if sys.version_info[:2] not in SUPPORTED:
        wanted = " or ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
        sys.exit(f"clinserve: needs Python {wanted}; this is {sys.version.split()[0]}")
    cli()


if __name__ == "__main__":
    main()
