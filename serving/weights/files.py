"""Which files a model may consist of."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from serving.weights.source import WeightsError

PICKLES = (
    "bin",
    "pt",
    "pth",
    "pkl",
    "pickle",
    "ckpt",
    "h5",
    "hdf5",
    "keras",
    "msgpack",
    "npy",
    "npz",
    "joblib",
    "dill",
)
CODE = ("py", "pyc", "pyd", "so", "sh")
"""Loading a pickle runs what is written in it, and some of the other formats can hold one."""
_NAMED = 3


def files_of(directory: Path) -> list[str]:
    """Names of the files below a directory, in the order of their bytes; without hidden ones and those in hidden
    folders, such as .git and .cache, which no engine reads.
    """
    names = []
    for folder, folders, files in os.walk(directory, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [(Path(folder) / name).relative_to(directory).as_posix() for name in files if not name.startswith(".")]
    return sorted(names, key=os.fsencode)


def hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def check_kinds(names: Iterable[str], *, allow_pickle: bool, of: str) -> None:
    """Raises WeightsError when a file could run code on being loaded."""
    refused = [] if allow_pickle else [name for name in names if _kind(name) in PICKLES + CODE]
    if refused:
        more = f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        raise WeightsError(
            f"{of} holds {', '.join(refused[:_NAMED])}{more}: pickles and code can do anything when they are loaded. "
            "Use safetensors, take the files away, or set model.allow_pickle: true if you trust their makers"
        )


def refused_patterns() -> list[str]:
    """The same as patterns of file names."""
    return [f"*.{kind}" for kind in PICKLES + CODE]


def _kind(name: str) -> str:
    return PurePosixPath(name).suffix.lower().removeprefix(".")
