"""Which weights a deployment runs, as one string: for the usage ledger and the audit log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from serving.settings import Deployment, EchoEngine, HttpEngine


def revision_of(deployment: Deployment, cache: Path) -> str:
    """`sha256:...` of a directory, `NAME@COMMIT` of a Hugging Face id, the engine's kind where there are no weights.

    cache: a file that remembers directories by their files' sizes and times; hashing reads some GB a second at most.
    """
    if isinstance(deployment.engine, EchoEngine):
        return "echo"
    if isinstance(deployment.engine, HttpEngine):
        return f"http:{deployment.engine.model or deployment.name}"
    source = Path(deployment.model.source)
    if not source.is_dir():
        return f"{deployment.model.source}@{deployment.model.revision or 'unpinned'}"
    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
    state = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    known = _read(cache)
    if (entry := known.get(str(source))) and entry["files"] == state:
        return str(entry["digest"])
    digest = digest_of(source, files)
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache.write_text(json.dumps(known | {str(source): {"files": state, "digest": digest}}))
    return digest


def digest_of(directory: Path, files: list[Path]) -> str:
    """SHA-256 over each file's name and its own SHA-256, in order: what `sha256sum` prints, hashed."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            one = hashlib.file_digest(file, "sha256")
        whole.update(f"{one.hexdigest()}  {path.relative_to(directory).as_posix()}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _read(cache: Path) -> dict[str, dict[str, object]]:
    try:
        value = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
