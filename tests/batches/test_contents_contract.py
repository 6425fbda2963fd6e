"""One suite for both places of files: a folder, and Azure Blob Storage as Azurite emulates it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError

from serving.azure_storage import AsyncSignIn, SignIn
from serving.batches.blob import BlobContents
from serving.batches.contents import PIECE, Contents, ContentsUnavailable
from serving.batches.disk import DiskContents
from tests.azurite import KEY, Azurite, Identity

Open = Callable[[], Contents]
LARGE = secrets.token_bytes(5 * 2**20 + 5)  # a block and a piece of a block


@pytest.fixture(params=["disk", "blob"])
async def contents(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Contents]:
    if request.param == "disk":
        yield DiskContents(tmp_path / "files")
        return
    azurite: Azurite = request.getfixturevalue("azurite")
    async with blob_on(azurite) as contents:
        yield contents


@contextlib.asynccontextmanager
async def blob_on(
    azurite: Azurite, credential: Callable[[], Any] = lambda: KEY, **more: Any
) -> AsyncIterator[Contents]:
    name = f"files-{secrets.token_hex(4)}"
    azurite.container(name)
    contents = BlobContents(f"{azurite.endpoint}/{name}", credential=credential, **more)
    yield contents
    await contents.close()


class Source:
    """Chunks that are closed at the end, whatever happens; breaks with `error` after them, if there is one."""

    def __init__(self, *chunks: bytes, error: BaseException | None = None) -> None:
        self._chunks, self._error = chunks, error
        self.closed = False

    async def read(self) -> AsyncGenerator[bytes, None]:
        try:
            for chunk in self._chunks:
                yield chunk
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def kept(contents: Contents, id: str) -> bytes:
    return b"".join([piece async for piece in contents.read(id)])


async def test_what_was_written_is_read_in_pieces_and_its_size_is_told(contents: Contents) -> None:
    source = Source(*(LARGE[start : start + 100_000] for start in range(0, len(LARGE), 100_000)))
    assert await contents.write("file-1", source.read()) == len(LARGE)
    pieces = [piece async for piece in contents.read("file-1")]
    assert b"".join(pieces) == LARGE and source.closed
    assert all(0 < len(piece) <= PIECE for piece in pieces)


async def test_one_chunk_of_any_size_is_kept(contents: Contents) -> None:
    await contents.write("file-1", Source(LARGE).read())
    assert await kept(contents, "file-1") == LARGE


@pytest.mark.parametrize("chunks", [(), (b"",)])
async def test_an_empty_file_is_a_file(contents: Contents, chunks: tuple[bytes, ...]) -> None:
    assert await contents.write("file-1", Source(*chunks).read()) == 0
    assert await kept(contents, "file-1") == b""


async def test_a_second_write_replaces_the_first_whole(contents: Contents) -> None:
    await contents.write("file-1", Source(LARGE).read())
    await contents.write("file-1", Source(b"short").read())
    assert await kept(contents, "file-1") == b"short"


@pytest.mark.parametrize("error", [ValueError("theirs"), OSError("theirs"), ClientAuthenticationError("theirs")])
@pytest.mark.parametrize("before", [b"", LARGE])
async def test_a_source_that_raises_leaves_what_was_there_and_its_error_is_raised(
    contents: Contents, error: Exception, before: bytes
) -> None:
    await contents.write("file-1", Source(b"first").read())
    source = Source(before, b"second", error=error)
    with pytest.raises(type(error), match="theirs"):
        await contents.write("file-1", source.read())
    assert source.closed and await kept(contents, "file-1") == b"first"
    with pytest.raises(type(error), match="theirs"):
        await contents.write("file-2", Source(before, error=error).read())
    with pytest.raises(FileNotFoundError):
        await kept(contents, "file-2")


async def test_a_write_that_is_cancelled_leaves_what_was_there(contents: Contents) -> None:
    await contents.write("file-1", Source(b"first").read())
    reached = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        yield LARGE
        reached.set()
        await asyncio.sleep(60)

    writing = asyncio.create_task(contents.write("file-1", endless()))
    await reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await kept(contents, "file-1") == b"first"


async def test_two_writers_of_one_file_do_not_mix(contents: Contents) -> None:
    """Two workers that finish the same batch. One may lose, and is told so; what is kept is one's, whole."""
    ours, theirs = b"a" * len(LARGE), b"b" * len(LARGE)
    results = await asyncio.gather(
        *(contents.write("file-1", Source(*(text[:PIECE],) * 40).read()) for text in (ours, theirs)),
        return_exceptions=True,
    )
    assert 40 * PIECE in results
    assert all(isinstance(result, int | ContentsUnavailable) for result in results)
    assert len(set(await kept(contents, "file-1"))) == 1


async def test_a_reader_that_stops_early_is_no_problem(contents: Contents) -> None:
    await contents.write("file-1", Source(LARGE).read())
    async with contextlib.aclosing(contents.read("file-1")) as pieces:
        assert LARGE.startswith(await anext(pieces))
    assert await kept(contents, "file-1") == LARGE


@pytest.mark.parametrize("id", ["file-0", "../file-1", "file-1/../file-1", "", "file-1\0"])
async def test_what_is_not_there_is_not_found_and_deleting_it_does_nothing(contents: Contents, id: str) -> None:
    await contents.write("file-1", Source(b"x").read())
    with pytest.raises(FileNotFoundError):
        await kept(contents, id)
    await contents.delete(id)
    assert await kept(contents, "file-1") == b"x"


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(contents: Contents) -> None:
    await contents.write("file-1", Source(b"x").read())
    await contents.delete("file-1")
    await contents.delete("file-1")
    with pytest.raises(FileNotFoundError):
        await kept(contents, "file-1")


async def test_a_full_or_read_only_disk_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("no folder")
    contents = DiskContents(tmp_path / "files")
    for attempt in (contents.write("file-1", Source(b"x").read()), contents.delete("file-1"), kept(contents, "file-1")):
        with pytest.raises(ContentsUnavailable):
            await attempt


async def test_a_container_that_is_not_there_is_unavailable_and_no_missing_file(azurite: Azurite) -> None:
    contents = BlobContents(f"{azurite.endpoint}/nowhere", credential=lambda: KEY)
    for attempt in (contents.write("file-1", Source(b"x").read()), contents.delete("file-1"), kept(contents, "file-1")):
        with pytest.raises(ContentsUnavailable):
            await attempt
    await contents.close()


@pytest.mark.parametrize("how", ["stopped", "silent"])
async def test_storage_that_goes_away_is_unavailable_in_bounded_time_and_works_when_it_is_back(
    azurite_of_my_own: Azurite, how: str
) -> None:
    azurite, reached, go = azurite_of_my_own, asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncGenerator[bytes, None]:
        yield LARGE[:1000]
        reached.set()
        await go.wait()
        yield LARGE[1000:]

    async with blob_on(azurite, seconds=2) as contents:
        await contents.write("file-1", Source(b"first").read())
        writing = asyncio.create_task(contents.write("file-1", slow()))
        await reached.wait()
        azurite.stop() if how == "stopped" else azurite.pause()
        go.set()
        began = time.monotonic()
        with pytest.raises(ContentsUnavailable):
            await writing
        with pytest.raises(ContentsUnavailable):
            await kept(contents, "file-1")
        with pytest.raises(ContentsUnavailable):
            await contents.delete("file-2")
        assert time.monotonic() - began < 3 * 2 + 2
        azurite.start() if how == "stopped" else azurite.resume()
        assert await kept(contents, "file-1") == b"first"


async def test_storage_that_goes_away_while_it_is_read_is_unavailable_and_not_the_files_end(
    azurite_of_my_own: Azurite,
) -> None:
    async with blob_on(azurite_of_my_own, seconds=2) as contents:
        await contents.write("file-1", Source(LARGE).read())
        pieces = contents.read("file-1")
        assert LARGE.startswith(await anext(pieces))
        azurite_of_my_own.pause()
        with pytest.raises(ContentsUnavailable):
            [piece async for piece in pieces]
        azurite_of_my_own.resume()


async def test_an_identity_signs_in_over_tls_once_and_for_storage(
    azurite_over_tls: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(azurite_over_tls.authority))
    identity = Identity()
    async with blob_on(azurite_over_tls, credential=lambda: SignIn(identity)) as contents:
        await contents.write("file-1", Source(LARGE).read())
        assert await kept(contents, "file-1") == LARGE
    assert identity.asked == ["https://storage.azure.com/.default"]


class Broken:
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.asked: list[str] = []

    def get_token(self, *scopes: str, **options: Any) -> Any:
        self.asked += scopes
        if self._error is None:
            time.sleep(5)
        raise self._error or ValueError


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        (Broken(ClientAuthenticationError("CANARY AADSTS700213 CANARY")), "signing in failed (AADSTS700213)"),
        (Broken(), "no answer in time"),
        (Broken(ValueError("CANARY")), "AZURE_* variable"),
        (Identity(audience="https://elsewhere"), "the role 'Storage Blob Data Contributor'"),
    ],
)
async def test_a_credential_that_fails_is_unavailable_and_the_log_says_why(
    azurite_over_tls: Azurite,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    credential: Any,
    said: str,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(azurite_over_tls.authority))
    async with blob_on(azurite_over_tls, credential=lambda: SignIn(credential, seconds=0.5)) as contents:
        with pytest.raises(ContentsUnavailable):
            await contents.write("file-1", Source(b"x").read())
    assert len(credential.asked) == 1, "it is not asked again"
    assert said in caplog.text and "CANARY" not in caplog.text


async def test_without_an_authority_that_is_trusted_no_token_is_sent(azurite_over_tls: Azurite) -> None:
    identity = Identity()
    async with blob_on(azurite_over_tls, credential=lambda: AsyncSignIn(SignIn(identity)), seconds=2) as contents:
        with pytest.raises(ContentsUnavailable):
            await kept(contents, "file-1")


def test_azure_is_not_imported_where_files_are_on_a_disk() -> None:
    code = "import sys, serving.jobs; assert 'azure.storage' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
