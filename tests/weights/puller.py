"""A process that fetches weights, which tests can kill: ENDPOINT CONTAINER FOLDER DIGEST [LARGEST_FILE]."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from serving.weights.source import BlobSource, WeightsError
from serving.weights.store import Wanted
from tests.azurite import ACCOUNT
from tests.weights.models import store_in

ROOT = Path(__file__).parents[2]


def pulling(endpoint: str, folder: Path, wanted: Wanted, *more: str) -> subprocess.Popen[str]:
    assert isinstance(wanted.source, BlobSource) and wanted.digest
    words = [endpoint, wanted.source.container, str(folder), wanted.digest, *more]
    command = [sys.executable, "-m", "tests.weights.puller", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def main(endpoint: str, container: str, folder: str, digest: str, largest: str = "") -> None:
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))

    def say(text: str) -> None:
        if "GB" not in text:
            print(text, flush=True)

    try:
        wanted = Wanted(BlobSource(ACCOUNT, container, "models/demo"), digest)
        print("ready", store_in(Path(folder), endpoint).ready(wanted, say))
    except WeightsError as error:
        print("refused", error)


if __name__ == "__main__":
    main(*sys.argv[1:])
