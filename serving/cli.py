"""The `clinserve` command: its verbs and how their errors are shown. What they do is in commands/."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from serving import __version__, hardening
from serving.commands.audit import audit_app
from serving.commands.batch import batch_app
from serving.commands.configuration import Config, ConfigurationFile, Verbs, path_of
from serving.commands.kept import kept_key
from serving.commands.keys import keys_app
from serving.commands.limits import limits_app
from serving.commands.office import Office
from serving.commands.remote import DEFAULT_URL, CannotAsk, Key, Url
from serving.commands.secret_versions import secrets_app
from serving.commands.session import one_line_errors
from serving.commands.tenants import tenants_app
from serving.commands.usage import usage_app
from serving.secrets import SecretsError
from serving.settings import Settings, SettingsError
from serving.settings import load as read_settings

SUPPORTED = ((3, 11), (3, 12))

cli = Verbs(
    help="Serve clinical foundation models behind an OpenAI-compatible API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals may hold keys and prompts
)
config_cli = Verbs(help="Look at configurations.", no_args_is_help=True)
weights_cli = Verbs(help="Fetch, verify and name the weights of deployments.", no_args_is_help=True)
cli.add_typer(config_cli, name="config")
cli.add_typer(weights_cli, name="weights")
cli.add_typer(tenants_app, name="tenants")
cli.add_typer(keys_app, name="keys")
cli.add_typer(limits_app, name="limits")
cli.add_typer(usage_app, name="usage")
cli.add_typer(audit_app, name="audit")
cli.add_typer(batch_app, name="batch")
cli.add_typer(secrets_app, name="secrets")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback()
def root(
    context: typer.Context,
    config: Config = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    context.obj = ConfigurationFile(config, _office)


@cli.command()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; overrides server.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; overrides server.port.", min=1, max=65535)] = None,
) -> None:
    """Start everything on this machine and stay in the foreground; Ctrl-C stops it all."""
    from serving.app import load_settings
    from serving.commands import serve as command

    path = path_of(context)
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}

    def read() -> Settings:
        settings = load_settings(path)
        return settings.model_copy(update={"server": settings.server.model_copy(update=changes)})

    try:
        with one_line_errors():
            command.serve(read)
    except (command.CannotStart, SettingsError, SecretsError) as error:
        fail(str(error))


@cli.command("serve-config")
def serve_config(context: typer.Context) -> None:
    """Print what Ray Serve is told of a configuration: for `serve deploy`, or a RayService's serveConfigV2."""
    import yaml

    from serving.rayservice import serve_config_of

    try:
        typer.echo(yaml.safe_dump(serve_config_of(path_of(context)), sort_keys=False), nl=False)
    except SettingsError as error:
        fail(str(error))


@cli.command()
def prepare(context: typer.Context) -> None:
    """Do what comes before the first request: database, tenants, administrator. `serve` does it by itself."""
    from serving.commands import serve as command
    from serving.commands.progress import Progress

    settings = load(path_of(context), elsewhere=True)
    try:
        with one_line_errors():
            command.prepare(settings, Progress())
            command.demo_key(settings)
    except (command.CannotStart, SettingsError, SecretsError) as error:
        fail(str(error))


@cli.command()
def metrics(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 9464,
) -> None:
    """Answer scrapes of this machine's processes at /metrics, where no gateway does; Ctrl-C ends it."""
    from serving.app import metrics_dir
    from serving.commands import metrics as command

    command.server(metrics_dir(load(path_of(context), elsewhere=True)), host, port).serve_forever()


@cli.command()
def reload(
    context: typer.Context,
    restart: Annotated[
        list[str] | None, typer.Option(help="A deployment, or 'gateway', to replace although nothing differs.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.", min=1)] = 1800.0,
) -> None:
    """Have the server on this machine read its configuration again: what differs is replaced, and no answer is cut."""
    from serving.commands import reload as command
    from serving.commands.rollout import CannotReload

    try:
        typer.echo(command.reload(load(path_of(context)).server.state_dir, restart or (), timeout=timeout))
    except CannotReload as error:
        fail(str(error))


@cli.command(reads_configuration=False)
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


@cli.command(reads_configuration=False)
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


@cli.command(reads_configuration=False)
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
        settings = read_settings(path_of(context))
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
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say what this machine can run and what is missing."""
    from serving.commands import doctor as command

    raise typer.Exit(command.doctor(path_of(context), as_json=as_json))


@cli.command(reads_configuration=False)
def plan(
    model: Annotated[str | None, typer.Argument(help="Of the catalogue, or a directory. Without it, the list.")] = None,
    gpu: Annotated[str, typer.Option(help="Such as H100, A100-80G or L40S.")] = "H100",
    gpus: Annotated[int | None, typer.Option(help="tensor_parallel_size. Default: the fewest that do.", min=1)] = None,
    quantization: Annotated[str | None, typer.Option(help="Such as fp8. Default: the checkpoint's own.")] = None,
    kv_dtype: Annotated[str, typer.Option(help="Of the KV cache: auto, or fp8 for twice the tokens.")] = "auto",
    context: Annotated[int | None, typer.Option(help="max_model_len. Default: the model's, to 32768.", min=1)] = None,
    record: Annotated[
        int | None, typer.Option(help="Tokens of a request with its answer. Default: 8192.", min=2)
    ] = None,
    answer: Annotated[int, typer.Option(help="Tokens of its answer.", min=1)] = 512,
    length: Annotated[list[int] | None, typer.Option(help="Requests of so many tokens too; repeat it.", min=1)] = None,
    at_least: Annotated[int, typer.Option(help="Records that must fit at a time.", min=1)] = 1,
    sequences: Annotated[int, typer.Option(help="max_num_seqs: requests that vLLM runs at a time.", min=1)] = 256,
    price: Annotated[float | None, typer.Option(help="Of one GPU for an hour, in any currency.", min=0)] = None,
    load: Annotated[float, typer.Option(help="Share of the paid time in which it is busy.", min=0.01, max=1)] = 0.6,
    bandwidth: Annotated[float, typer.Option(help="Share of the GPU's that decoding gets.", min=0.01, max=1)] = 0.7,
    arithmetic: Annotated[float, typer.Option(help="Share of the GPU's that prefill gets.", min=0.01, max=1)] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    as_deployment: Annotated[bool, typer.Option(help="Print a block of the configuration instead.")] = False,
    catalog: Annotated[
        Path | None, typer.Option(envvar="CLINSERVE_CATALOG", help="Another catalogue: a folder of YAML files.")
    ] = None,
) -> None:
    """Predict what a model needs: GPUs, memory, KV cache, requests at a time, speed and cost."""
    from serving.commands import plan as command
    from serving.sizing.catalog import BUNDLED
    from serving.sizing.errors import SizingError
    from serving.sizing.plan import Question
    from serving.sizing.speed import Efficiency

    question = Question(
        gpus=gpus or 0, quantisation=quantization, kv_dtype=kv_dtype, context=context or 0, record=record or 0,
        answer=answer, at_least=at_least, sequences=sequences, price=price, load=load,
        efficiency=Efficiency(bandwidth=bandwidth, arithmetic=arithmetic),
    )  # fmt: skip
    folder = catalog or BUNDLED
    try:
        if model is None:
            command.models(folder)
        else:
            command.plan(
                model, gpu, question, length or (), as_json=as_json, as_deployment=as_deployment, folder=folder
            )
    except SizingError as error:
        fail(str(error))


@config_cli.command("check")
def config_check(context: typer.Context) -> None:
    """Read a configuration and say every mistake in it."""
    path = path_of(context)
    settings = load(path)
    for deployment in settings.deployments:
        scaling = deployment.scaling
        count = f"{scaling.min} to {scaling.max}" if scaling else deployment.replicas
        facts = (deployment.engine.kind, deployment.model.source, f"replicas {count}")
        typer.echo(f"{deployment.name}: {', '.join(filter(None, facts))}")
    typer.echo(f"{path}: valid")


@config_cli.command("show")
def config_show(context: typer.Context) -> None:
    """Print the settings in force: file, environment and defaults together. Secrets are not part of them."""
    import yaml

    typer.echo(yaml.safe_dump(load(path_of(context)).model_dump(mode="json"), sort_keys=False), nl=False)


@config_cli.command("reference", reads_configuration=False)
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

    hardening.share_files()  # weights are no secret, and who fetches them may not be who serves them
    with _weights_errors():
        command.pull(load(path_of(context)), deployment)


@weights_cli.command("verify")
def weights_verify(context: typer.Context, deployment: Named = None) -> None:
    """Hash the weights that are on this machine and compare them with what is pinned."""
    from serving.commands import weights as command

    with _weights_errors():
        command.verify(load(path_of(context)), deployment)


@weights_cli.command("digest", reads_configuration=False)
def weights_digest(directory: Annotated[Path, typer.Argument(help="A directory of weights.")]) -> None:
    """Print a directory's digest, to be pinned as model.digest."""
    from serving.commands import weights as command

    with _weights_errors():
        command.digest(directory)


@contextlib.contextmanager
def _weights_errors() -> Iterator[None]:
    from serving.weights.source import WeightsError

    try:
        yield
    except (WeightsError, SettingsError) as error:
        fail(str(error))


def load(path: Path, *, elsewhere: bool = False) -> Settings:
    """elsewhere: its directories are those of other machines."""
    from serving.app import load_settings

    try:
        return load_settings(path, elsewhere=elsewhere)
    except SettingsError as error:
        fail(str(error))


def _office(config: Path) -> Office:
    from serving.app import open_office

    try:
        return open_office(read_settings(config, elsewhere=True))  # not load: vLLM's arguments take a while
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
    hardening.keep_private()
    cli()


if __name__ == "__main__":
    main()
