"""Commands that are clients of a running server: where it is, the key, and what goes wrong as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from serving.commands.kept import kept_key

if TYPE_CHECKING:
    from openai import OpenAI

DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[str, typer.Option(envvar="CLINSERVE_URL", help="The server.")]
Key = Annotated[str | None, typer.Option(envvar="CLINSERVE_API_KEY", help="Default: the key in .clinserve/demo.key.")]


class CannotAsk(Exception):
    """One line that says what is wrong and what to do."""


@contextmanager
def asking(url: str, key: str | None) -> Iterator[OpenAI]:
    """A client of the server. Whatever it raises inside becomes CannotAsk."""
    # Imported here: the package takes a second, and administrative verbs do not need it.
    import openai

    client = openai.OpenAI(base_url=f"{url.rstrip('/')}/v1", api_key=key or _demo_key(url), max_retries=1)
    try:
        yield client
    except openai.APIConnectionError:
        raise CannotAsk(f"no server answers at {url}; start one with 'make serve'") from None
    except openai.APIError as error:
        raise CannotAsk(error.message) from None
    except BrokenPipeError:  # `| head` has seen enough; click ends quietly
        raise
    except OSError as error:
        raise CannotAsk(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None


def _demo_key(url: str) -> str:
    if (key := kept_key(url, "demo.key")) is None:
        raise CannotAsk("no key: pass --key, set CLINSERVE_API_KEY, or run 'make serve', which makes one")
    return key
