"""Repositories of a Hugging Face hub, in its own cache (HF_HOME). Owns huggingface_hub."""

from __future__ import annotations

from pathlib import Path

from serving.weights.files import files_of, refused_patterns
from serving.weights.source import HubSource, WeightsError

_WEIGHTS = (".safetensors", ".gguf")


def snapshot(
    source: HubSource,
    *,
    allow_pickle: bool,
    connections: int = 8,
    offline: bool = False,
    endpoint: str | None = None,
) -> Path:
    """The directory with the files at the source's revision; what may not be loaded is not downloaded.

    Resumes, and works without a network on what is in the cache, as huggingface_hub does. offline: nobody is asked.
    endpoint: of the hub, HF_ENDPOINT unless given. Raises WeightsError.
    """
    import httpx2
    from huggingface_hub import errors, snapshot_download

    try:
        directory = Path(
            snapshot_download(
                source.name,
                revision=source.revision,
                ignore_patterns=None if allow_pickle else refused_patterns(),
                max_workers=connections,
                local_files_only=offline,
                endpoint=endpoint,
            )
        )
    except errors.GatedRepoError:
        reason = "it is gated: accept its terms there, and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        reason = "there is no such repository, or it is private: set HF_TOKEN"
    except errors.RevisionNotFoundError:
        reason = f"there is no revision {source.revision}"
    except errors.LocalEntryNotFoundError:
        reason = "the hub does not answer, and the cache does not have it whole"
    except (errors.HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
        reason = f"it cannot be downloaded ({type(error).__name__})"
    else:
        if not allow_pickle and not any(name.endswith(_WEIGHTS) for name in files_of(directory)):
            raise WeightsError(
                f"{source} holds no safetensors. Convert it, or set model.allow_pickle: true if you trust its makers"
            )
        return directory
    raise WeightsError(f"{source}: {reason}")
