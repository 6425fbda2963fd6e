"""Weights of a Hugging Face hub: the real huggingface_hub on a stand-in for the hub, and on its cache alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.weights.digest import digest_of
from serving.weights.hub import snapshot
from serving.weights.source import HubSource, WeightsError
from serving.weights.store import Wanted
from tests.weights.hub_stub import COMMIT, NAME, Hub
from tests.weights.models import store_in

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"pickle", "modeling.py": b"code"}
SOURCE = HubSource(NAME, COMMIT)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with Hub(dict(FILES)) as hub:
        yield hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """As HF_HUB_OFFLINE=1 does."""
    return lambda: monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_only_what_may_be_loaded_is_downloaded(hub: Hub) -> None:
    directory = snapshot(SOURCE, allow_pickle=False, endpoint=hub.url)
    assert names_in(directory) == sorted(hub.asked) == ["config.json", "model.safetensors"]


def test_who_allows_pickles_gets_all(hub: Hub) -> None:
    assert names_in(snapshot(SOURCE, allow_pickle=True, endpoint=hub.url)) == sorted(FILES)


def test_what_is_in_the_cache_needs_no_hub(hub: Hub, offline: Callable[[], None]) -> None:
    directory = snapshot(SOURCE, allow_pickle=False, endpoint=hub.url)
    assert snapshot(SOURCE, allow_pickle=False, offline=True) == directory
    offline()
    assert snapshot(SOURCE, allow_pickle=False) == directory
    with pytest.raises(WeightsError, match="the hub does not answer, and the cache does not have it whole"):
        snapshot(HubSource("org/other", COMMIT), allow_pickle=False)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ((401, "RepoNotFound"), "there is no such repository, or it is private: set HF_TOKEN"),
        ((403, "GatedRepo"), "it is gated: accept its terms there, and set HF_TOKEN"),
        ((404, "RevisionNotFound"), f"there is no revision {COMMIT}"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(hub: Hub, status: tuple[int, str], said: str) -> None:
    hub.status = status
    with pytest.raises(WeightsError) as refused:
        snapshot(SOURCE, allow_pickle=False, endpoint=hub.url)
    assert str(refused.value) == f"hf://{NAME}: {said}"


def test_a_repository_of_pickles_alone_is_refused(hub: Hub) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(WeightsError, match=r"holds no safetensors.*model\.allow_pickle"):
        snapshot(SOURCE, allow_pickle=False, endpoint=hub.url)


def test_a_snapshot_is_verified_when_a_digest_is_pinned(hub: Hub, offline: Callable[[], None], tmp_path: Path) -> None:
    directory = snapshot(SOURCE, allow_pickle=False, endpoint=hub.url)
    offline()
    store = store_in(tmp_path, "")
    assert store.ready(Wanted(SOURCE, digest_of(directory)), lambda text: None) == directory
    assert store.present(Wanted(SOURCE)) == directory
    with pytest.raises(WeightsError, match="is pinned"):
        store.ready(Wanted(SOURCE, "sha256:" + "0" * 64), lambda text: None)


def test_pickles_that_others_put_into_the_cache_are_refused(
    hub: Hub, offline: Callable[[], None], tmp_path: Path
) -> None:
    snapshot(SOURCE, allow_pickle=True, endpoint=hub.url)
    offline()
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
        store_in(tmp_path, "").ready(Wanted(SOURCE), lambda text: None)
