"""What can be wrong with a question about size. Each message is one line that names the thing and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SizingError(Exception):
    """Base of all."""


class UnknownModel(SizingError):
    """Neither an entry of the catalogue nor a directory with a config.json."""


class UnknownGpu(SizingError):
    """No GPU of that name is in gpus.py."""


class UnknownPrecision(SizingError):
    """No such quantisation, or type of the KV cache."""


class UnreadableModel(SizingError):
    """A config.json lacks a number that memory depends on, or is none."""


class DoesNotFit(SizingError):
    """The model, or one request of the context asked for, is too large for what was allowed."""


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about a name that is not known: the nearest ones, or else all, or `otherwise`."""
    names = list(known)
    by_letters = {n.lower(): n for n in names}
    near = [by_letters[n] for n in difflib.get_close_matches(name.lower(), by_letters, n=3, cutoff=0.5)]
    return f"did you mean {' or '.join(near)}?" if near else otherwise or f"known are {', '.join(names)}"
