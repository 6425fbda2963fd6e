"""Files as they are kept: nobody reads them on the disk, what was changed there does not open, what is gone is gone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from serving.batches.contents import PIECE, Contents, ContentsUnavailable
from serving.batches.disk import DiskContents
from serving.batches.orphans import Orphans
from serving.batches.sealed import ContentsDamaged, Kept, SealedContents
from serving.sealing import Sealer
from tests.batches.conftest import jsonl, line
from tests.batches.test_contents_contract import contents  # noqa: F401  # a fixture
from tests.batches.workshop import Workshop, pieces
from tests.local import Site, error_of, listening

CANARY = b"Zebulon-Quackenbush-19470231"
LARGE = CANARY * (5 * PIECE // len(CANARY))
PLAIN = PIECE - 16


async def read(sealed: SealedContents, kept: Kept, tenant: str = "ward") -> bytes:
    return b"".join([piece async for piece in sealed.read(tenant, kept)])


@pytest.mark.parametrize("size", [0, 1, PLAIN - 1, PLAIN, PLAIN + 1, 3 * PLAIN, 3 * PLAIN + 7])
@pytest.mark.parametrize("chunk", [1000, PLAIN, 10**7])
async def test_what_is_kept_comes_back_in_pieces(contents: Contents, size: int, chunk: int) -> None:  # noqa: F811
    sealed, text = SealedContents(contents, Sealer(b"s" * 32)), os.urandom(size)
    kept = await sealed.write("ward", pieces(*(text[at : at + chunk] for at in range(0, size, chunk))))
    assert kept.size == size
    found = [piece async for piece in sealed.read("ward", kept)]
    assert b"".join(found) == text and all(0 < len(piece) <= PIECE for piece in found)


class Damage:
    """What somebody does to the bytes on the disk."""

    def __init__(self, folder: Path, kept: Kept) -> None:
        self.path = folder / kept.name
        self.bytes = self.path.read_bytes()

    def cut(self, to: int) -> None:
        self.path.write_bytes(self.bytes[:to])

    def flip(self, at: int) -> None:
        self.path.write_bytes(self.bytes[:at] + bytes([self.bytes[at] ^ 1]) + self.bytes[at + 1 :])

    def pieces(self) -> tuple[bytes, list[bytes]]:
        head, rest = self.bytes[:16], self.bytes[16:]
        return head, [rest[at : at + PIECE] for at in range(0, len(rest), PIECE)]

    def order(self, *numbers: int) -> None:
        head, found = self.pieces()
        self.path.write_bytes(head + b"".join(found[number] for number in numbers))


DAMAGES: dict[str, Callable[[Damage], object]] = {
    "cut to nothing": lambda damage: damage.cut(0),
    "cut in the head": lambda damage: damage.cut(9),
    "cut to the head": lambda damage: damage.cut(16),
    "cut in a piece": lambda damage: damage.cut(16 + PIECE + 5),
    "cut between pieces": lambda damage: damage.cut(16 + 2 * PIECE),
    "the last byte is missing": lambda damage: damage.cut(-1),
    "longer": lambda damage: damage.path.write_bytes(damage.bytes + b"x"),
    "another version": lambda damage: damage.flip(15),
    "a bit of the first piece": lambda damage: damage.flip(16),
    "a bit of the second": lambda damage: damage.flip(16 + PIECE + 3),
    "a bit of the last": lambda damage: damage.flip(len(damage.bytes) - 1),
    "two change places": lambda damage: damage.order(1, 0, 2, 3, 4),
    "one is missing": lambda damage: damage.order(0, 2, 3, 4),
    "one comes twice": lambda damage: damage.order(0, 0, 1, 2, 3, 4),
    "the last comes first": lambda damage: damage.order(4),
    "plain text": lambda damage: damage.path.write_bytes(LARGE),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_what_was_changed_on_the_disk_does_not_open(tmp_path: Path, damage: Callable[[Damage], object]) -> None:
    sealed = SealedContents(DiskContents(tmp_path), Sealer(b"s" * 32))
    kept = await sealed.write("ward", pieces(LARGE))
    assert CANARY not in (tmp_path / kept.name).read_bytes()
    damage(Damage(tmp_path, kept))
    with pytest.raises(ContentsDamaged):
        await read(sealed, kept)


async def test_a_content_opens_for_its_tenant_under_its_name_and_with_the_secret_only(tmp_path: Path) -> None:
    disk = DiskContents(tmp_path)
    sealed = SealedContents(disk, Sealer(b"s" * 32))
    kept, other = await sealed.write("ward", pieces(b"one")), await sealed.write("ward", pieces(b"two"))
    moved = Kept(other.name, kept.place, kept.key, 3)
    for opening in (
        read(sealed, kept, "lab"),
        read(sealed, moved),
        read(SealedContents(disk, Sealer(b"t" * 32)), kept),
        read(sealed, Kept(kept.name, kept.place, b"", 3)),
    ):
        with pytest.raises(ContentsDamaged):
            await opening
    assert await read(sealed, kept) == b"one"


async def test_whoever_has_another_folder_can_neither_read_nor_say_that_it_is_deleted(tmp_path: Path) -> None:
    here, there = (SealedContents(DiskContents(tmp_path / name), Sealer(b"s" * 32)) for name in ("here", "there"))
    kept = await here.write("ward", pieces(b"one"))
    for act in (there.delete(kept), read(there, kept)):
        with pytest.raises(ContentsUnavailable):
            await act
    assert await read(here, kept) == b"one"


async def test_processes_that_begin_at_once_have_one_place(tmp_path: Path) -> None:
    places = await asyncio.gather(*(DiskContents(tmp_path / "new").place() for _ in range(20)))
    assert len(set(places)) == 1 and [path.name for path in (tmp_path / "new").iterdir()] == [".place"]


@pytest.fixture
def place(site: Callable[..., Site]) -> Iterator[tuple[Site, httpx.Client]]:
    here = site()
    with (
        listening(here.app) as url,
        httpx.Client(base_url=url, headers={"api-key": here.key}, timeout=30) as client,
    ):
        yield here, client


def uploaded(client: httpx.Client, content: bytes) -> str:
    answer = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", content)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_nothing_of_a_batch_can_be_read_in_the_state_directory(place: tuple[Site, httpx.Client]) -> None:
    here, client = place
    file = uploaded(client, jsonl([line(1, CANARY.decode()), line(2, CANARY.decode(), body={"model": "echo"})]))
    request = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = client.post("/v1/batches", json=request).json()
    while batch["status"] not in ("completed", "failed"):
        batch = client.get(f"/v1/batches/{batch['id']}").json()
    output = client.get(f"/v1/files/{batch['output_file_id']}/content")
    assert CANARY in output.content and len(output.content) == int(output.headers["content-length"])
    for path in here.settings.server.state_dir.rglob("*"):
        assert not path.is_file() or CANARY not in path.read_bytes(), path


def test_a_file_that_was_damaged_is_an_error_of_the_server_and_says_nothing_of_it(
    place: tuple[Site, httpx.Client],
) -> None:
    here, client = place
    file = uploaded(client, jsonl([line(1, CANARY.decode())]))
    for path in (here.settings.server.state_dir / "files").iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    answer = client.get(f"/v1/files/{file}/content")
    assert CANARY.decode() not in json.dumps(error_of(answer, 500, "file_damaged"))
    request = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = client.post("/v1/batches", json=request).json()
    while batch["status"] not in ("completed", "failed"):
        batch = client.get(f"/v1/batches/{batch['id']}").json()
    assert batch["status"] == "failed" and "damaged" in batch["errors"]["data"][0]["message"]
    assert client.delete(f"/v1/files/{file}").json()["deleted"] is True


def test_a_file_whose_bytes_cannot_be_reached_stays_listed(place: tuple[Site, httpx.Client], tmp_path: Path) -> None:
    here, client = place
    file, state = uploaded(client, b"{}\n"), here.settings.server.state_dir
    for name in ("files", "files.place"):
        (state / name).rename(tmp_path / name)  # as if its disk were not mounted
    error_of(client.delete(f"/v1/files/{file}"), 503, "contents_unavailable")
    error_of(client.get(f"/v1/files/{file}/content"), 503, "contents_unavailable")
    assert [one["id"] for one in client.get("/v1/files").json()["data"]] == [file]
    (state / "files").rmdir()
    for name in ("files", "files.place"):
        (tmp_path / name).replace(state / name)
    assert client.delete(f"/v1/files/{file}").json()["deleted"] is True
    assert list((state / "files").iterdir()) == [] and client.get("/v1/files").json()["data"] == []


def test_a_tenants_files_have_a_total_and_it_says_so(site: Callable[..., Site]) -> None:
    here = site(batches={"max_total": 300})
    with listening(here.app) as url, httpx.Client(base_url=url, headers={"api-key": here.key}) as client:
        file = uploaded(client, b"x" * 200)
        sent = {"data": {"purpose": "batch"}, "files": {"file": ("a", b"x" * 101)}}
        assert "100 bytes more" in error_of(client.post("/v1/files", **sent), 400, "quotaExceeded")["message"]  # type: ignore[arg-type]
        uploaded(client, b"x" * 100)
        request = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        error_of(client.post("/v1/batches", json=request), 400, "quotaExceeded")
        client.delete(f"/v1/files/{file}").raise_for_status()
        uploaded(client, b"x" * 200)
    assert len(list((here.settings.server.state_dir / "files").iterdir())) == 2


async def test_bytes_of_no_file_and_files_of_no_bytes_are_swept_once_they_are_old(workshop: Workshop) -> None:
    folder, sealed = workshop.folder / "files", workshop.sealed
    orphan, fresh = await sealed.write("ward", pieces(b"x")), await sealed.write("ward", pieces(b"x"))
    good, empty, elsewhere = [await workshop.keep(f"file-{number}", b"x") for number in range(3)]
    workshop.file_store.put(Workshop.placed(elsewhere, "another place"))
    for path in folder.glob("file-*"):
        if path.name != fresh.name:
            os.utime(path, (0, 0))
    for kept in (empty.kept, elsewhere.kept):
        (folder / kept.name).unlink()
    workshop.pass_time(7200)
    orphans = Orphans(workshop.file_store, workshop.contents)
    assert await orphans.sweep(workshop.now) == 2
    assert {path.name for path in folder.glob("file-*")} == {good.kept.name, fresh.name} and orphan
    assert [bool(workshop.file_store.get("ward", f"file-{number}")) for number in range(3)] == [True, False, True]
    assert await orphans.sweep(workshop.now) == 0


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from serving.batches.disk import DiskContents

async def chunks():
    yield b"x" * 100_000
    print("written", flush=True)
    await asyncio.sleep(60)

asyncio.run(DiskContents(Path(sys.argv[1])).write("file-1", chunks()))
"""


async def test_what_a_killed_upload_has_left_is_swept_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout and writer.stdout.readline() == b"written\n"
        await asyncio.sleep(1.1)  # younger than a second counts as being written
        disk = DiskContents(tmp_path)
        assert [one async for one in disk.ages()] == [] and len(list(tmp_path.glob("*.partial"))) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert [one async for one in disk.ages()] == [] and list(tmp_path.glob("*.partial")) == []


async def test_what_a_writer_of_another_machine_has_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    disk, left = DiskContents(tmp_path), tmp_path / ".file-1.of-another-machine.partial"
    left.write_bytes(b"x")
    assert [one async for one in disk.ages()] == [] and left.exists()
    os.utime(left, (0, 0))
    assert [one async for one in disk.ages()] == [] and not left.exists()
