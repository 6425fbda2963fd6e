"""A replica's adapters on a shelf that remembers: loaded when listed, unloaded when unused, refused when wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.types import Message, Receive, Scope, Send

from serving import settings as config
from serving.deployments.adapters import AdapterRefused, Adapters
from serving.deployments.following import Following
from serving.deployments.lanes import Lanes
from serving.deployments.model_replica import EngineDoor
from serving.deployments.naming import SECRET_HEADER
from serving.deployments.tallies import Tallies
from serving.engines.adapters import Adapter as Named
from serving.engines.engine import ADAPTER_HEADER
from serving.weights.source import WeightsError
from tests.local import eventually


def entry(name: str, letter: str = "a") -> dict[str, str]:
    return {"name": name, "source": f"hf://lab/{name}", "digest": "sha256:" + letter * 64}


def loaded(name: str, letter: str = "a") -> str:
    return Named("base", name, "sha256:" + letter * 64).loaded


class Folder:
    """A deployment with a file of adapters."""

    def __init__(self, path: Path, *entries: dict[str, str]) -> None:
        self.file = path / "adapters.yaml"
        self.list(*entries)
        one = {"name": "base", "engine": {"kind": "echo"}, "adapters_file": str(self.file)}
        self.deployment = config.parse({"server": {"runtime": "process"}, "deployments": [one]}).deployments[0]

    def list(self, *entries: dict[str, str]) -> None:
        self.file.write_text(yaml.safe_dump(list(entries)))


class Remembering:
    """A shelf. refuse: names that it does not take."""

    def __init__(self, *refuse: str) -> None:
        self.held: dict[str, Path] = {}
        self.refuse = set(refuse)
        self.tries = 0

    async def load(self, name: str, directory: Path) -> None:
        self.tries += 1
        await asyncio.sleep(0)
        if name in self.refuse:
            raise AdapterRefused("rank 64 is too high")
        self.held[name] = directory

    async def unload(self, name: str) -> None:
        await asyncio.sleep(0)
        del self.held[name]


def of(folder: Folder, shelf: Remembering, weights: Callable[[config.Adapter], Path] | None = None) -> Adapters:
    return Adapters(folder.deployment, shelf, weights or (lambda adapter: Path("/weights", adapter.name)))


def asking(name: str = "") -> Scope:
    headers = [(ADAPTER_HEADER.encode(), name.encode())] if name else []
    return {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}


async def test_what_is_listed_is_loaded_before_the_replica_serves(tmp_path: Path) -> None:
    shelf = Remembering()
    await of(Folder(tmp_path, entry("radiology"), entry("oncology", "b")), shelf).start()
    assert shelf.held == {
        loaded("radiology"): Path("/weights/radiology"),
        loaded("oncology", "b"): Path("/weights/oncology"),
    }


async def test_one_that_is_added_is_there_for_its_first_request(tmp_path: Path) -> None:
    folder, shelf = Folder(tmp_path), Remembering()
    adapters = of(folder, shelf)
    await adapters.start()
    folder.list(entry("radiology"))
    async with adapters.used_by(asking(loaded("radiology"))) as ready:
        assert ready and loaded("radiology") in shelf.held


async def test_one_that_is_taken_away_is_unloaded_when_its_last_request_has_ended(tmp_path: Path) -> None:
    folder, shelf = Folder(tmp_path, entry("radiology")), Remembering()
    adapters = of(folder, shelf)
    await adapters.start()
    async with adapters.used_by(asking(loaded("radiology"))) as ready:
        adapters.follow([])
        async with adapters.used_by(asking(loaded("radiology"))) as still:
            assert ready and still
        await asyncio.sleep(0.01)
        assert shelf.held
    await eventually(lambda: not shelf.held)
    async with adapters.used_by(asking(loaded("radiology"))) as ready:
        assert not ready


async def test_other_weights_under_the_same_name_are_another_adapter(tmp_path: Path) -> None:
    folder, shelf = Folder(tmp_path, entry("radiology")), Remembering()
    adapters = of(folder, shelf)
    await adapters.start()
    async with adapters.used_by(asking(loaded("radiology"))):
        adapters.follow([config.Adapter.model_validate(entry("radiology", "b"))])
        async with adapters.used_by(asking(loaded("radiology", "b"))) as ready:
            assert ready and shelf.held.keys() == {loaded("radiology"), loaded("radiology", "b")}
    await eventually(lambda: shelf.held.keys() == {loaded("radiology", "b")})


async def test_one_that_leaves_and_comes_back_at_once_stays(tmp_path: Path) -> None:
    folder, shelf = Folder(tmp_path, entry("radiology")), Remembering()
    adapters = of(folder, shelf)
    await adapters.start()
    listed = [config.Adapter.model_validate(entry("radiology"))]
    for _ in range(3):
        adapters.follow([])
        adapters.follow(listed)
    await asyncio.sleep(0.02)
    async with adapters.used_by(asking(loaded("radiology"))) as ready:
        assert ready and shelf.held.keys() == {loaded("radiology")}


@pytest.mark.parametrize("why", ["weights", "engine"])
async def test_one_that_cannot_be_loaded_keeps_nothing_else_from_serving(
    tmp_path: Path, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    def weights(adapter: config.Adapter) -> Path:
        if why == "weights" and adapter.name == "bad":
            raise WeightsError("is sha256:1, but sha256:2 is pinned")
        return Path(adapter.name)

    shelf = Remembering(*[loaded("bad")] * (why == "engine"))
    adapters = of(Folder(tmp_path, entry("bad"), entry("good", "b")), shelf, weights)
    with caplog.at_level(logging.WARNING):
        await adapters.start()
    assert loaded("bad") in caplog.text
    for name, expected in (("", True), (loaded("good", "b"), True), (loaded("bad"), False)):
        async with adapters.used_by(asking(name)) as ready:
            assert ready == expected


async def test_one_that_failed_is_tried_again_after_a_while_and_not_for_each_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Remembering(loaded("late"))
    adapters = of(Folder(tmp_path, entry("late")), shelf)
    await adapters.start()
    for _ in range(5):
        async with adapters.used_by(asking(loaded("late"))) as ready:
            assert not ready
    assert shelf.tries == 1
    shelf.refuse.clear()
    adapters._failed[loaded("late")] = 0.0  # half a minute later
    async with adapters.used_by(asking(loaded("late"))) as ready:
        assert ready


async def test_one_that_failed_is_tried_again_when_the_list_changes(tmp_path: Path) -> None:
    folder, shelf = Folder(tmp_path, entry("late")), Remembering(loaded("late"))
    adapters = of(folder, shelf)
    await adapters.start()
    shelf.refuse.clear()
    folder.list(entry("late"), entry("other", "b"))
    async with adapters.used_by(asking(loaded("other", "b"))), adapters.used_by(asking(loaded("late"))) as ready:
        assert ready


async def test_the_door_turns_away_what_needs_an_adapter_that_is_not_there(tmp_path: Path) -> None:
    adapters, sent, let_in = of(Folder(tmp_path), Remembering()), list[Message](), []
    await adapters.start()

    async def engine(scope: Scope, receive: Receive, send: Send) -> None:
        let_in.append(scope)

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    scope = asking("base:unknown@0123")
    scope["headers"].append((SECRET_HEADER.encode(), b"secret"))
    await EngineDoor(engine, "secret", Tallies(), Lanes(slots=4), adapters)(scope, receive, send)
    assert (sent[0]["status"], let_in) == (503, [])


async def followed(folder: Folder) -> tuple[Following, list[list[str]]]:
    told: list[list[str]] = []

    def note(listed: Sequence[Any]) -> None:
        told.append([adapter.name for adapter in listed])

    following = Following(folder.deployment, note, every=0.01)
    following.begin()
    await following.start()
    return following, told


async def test_a_file_is_read_again_when_it_changes_and_told_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path, entry("radiology"))
    following, told = await followed(folder)
    folder.list(entry("radiology"), entry("oncology"))
    await eventually(lambda: len(told) == 2)
    folder.file.touch()
    await asyncio.sleep(0.05)
    await following.close()
    assert told == [["radiology"], ["radiology", "oncology"]]


@pytest.mark.parametrize("text", ["- name: [", "radiology", "- {name: radiology}", None])
async def test_a_file_that_is_broken_or_gone_changes_nothing(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Folder(tmp_path, entry("radiology"))
    following, told = await followed(folder)
    folder.file.unlink()
    if text is not None:
        folder.file.write_text(text)
    await eventually(lambda: "stay as they were" in caplog.text)
    folder.list(entry("oncology"))
    await eventually(lambda: len(told) == 2)
    await following.close()
    assert told == [["radiology"], ["oncology"]]


async def test_a_link_that_is_swapped_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes updates a ConfigMap."""
    folder = Folder(tmp_path, entry("radiology"))
    real = tmp_path / "first"
    folder.file.rename(real)
    folder.file.symlink_to(real)
    following, told = await followed(folder)
    (tmp_path / "second").write_text(yaml.safe_dump([entry("oncology")]))
    (tmp_path / "link").symlink_to(tmp_path / "second")
    (tmp_path / "link").rename(folder.file)
    await eventually(lambda: told == [["radiology"], ["oncology"]])
    await following.close()
