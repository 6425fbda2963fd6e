"""The engine of a deployment, as the product's configuration describes it, and vLLM's own server with it."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loadtests.overhead.servers import BenchError


@dataclass(frozen=True)
class Engine:
    """The engine of the first deployment in a configuration file: what all peers are to run."""

    name: str
    model: str
    arguments: Mapping[str, Any]
    environment: Mapping[str, str]


def read_engine(config: Path) -> Engine:
    """Return what the configuration file says about its first deployment's engine."""
    try:
        deployment = yaml.safe_load(config.read_text())["deployments"][0]
        engine = deployment["engine"]
        found = Engine(
            name=deployment["name"],
            model=_located(deployment["model"]["source"], config),
            arguments=engine.get("args") or {},
            environment={name: str(value) for name, value in (engine.get("env") or {}).items()},
        )
    except OSError as error:
        raise BenchError(f"cannot read the configuration {config}: {error.strerror}") from error
    except (KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        raise BenchError(f"{config} does not describe a vLLM deployment: {error!r}") from error
    if engine.get("kind", "vllm") != "vllm":
        raise BenchError(f"the first deployment in {config} has the engine {engine['kind']!r}, which has no bare side")
    return found


def _located(source: str, config: Path) -> str:
    """A directory is relative to the configuration file, as for the product; anything else is a Hugging Face id."""
    directory = (config.parent / source).resolve()
    return str(directory) if directory.is_dir() else source


def check_model(engine: Engine) -> None:
    """Raise when the model is a path and is not there."""
    if engine.model.startswith((".", "/")) and not (Path(engine.model) / "config.json").is_file():
        raise BenchError(f"no model in {engine.model}")


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Return vLLM's engine arguments, named as in Python, as its command line wants them."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        match value:
            case None:
                continue
            case bool():
                words += [f"--{flag}" if value else f"--no-{flag}"]
            case dict():
                words += [f"--{flag}", json.dumps(value)]
            case list():
                words += [f"--{flag}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)]
            case _:
                words += [f"--{flag}", str(value)]
    return words


def bare_command(engine: Engine, port: int) -> list[str]:
    """Return the command for vLLM's own server: `vllm serve` would be the same, but fails with the CPU package."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", engine.model]
    command += ["--served-model-name", engine.name, "--host", "127.0.0.1", "--port", str(port)]
    return [*command, *flags(engine.arguments), "--disable-uvicorn-access-log"]  # as fast as it can be
