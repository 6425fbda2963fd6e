"""Weights from Azure Blob Storage: the bundled model on Azurite, and everything that can come between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.azure_storage import SignIn
from serving.vault import default_credential
from serving.weights.blobs import Blobs, Unreachable
from serving.weights.digest import digest_of
from serving.weights.files import files_of
from serving.weights.source import BlobSource, WeightsError
from serving.weights.store import Store, Wanted
from tests.azurite import ACCOUNT, KEY, Azurite, Identity, token
from tests.test_vault import StandIn, cloud  # noqa: F401, cloud is a fixture
from tests.weights.models import CONNECTIONS, DEMO, PIECE, SIZE, copied, put, store_in, stored, wanted
from tests.weights.puller import pulling
from tests.weights.wire import Wire

OVERHEAD = 100_000
"""Headers and listings."""


@pytest.fixture
def wire(azurite: Azurite) -> Iterator[Wire]:
    with Wire(azurite.port) as wire:
        yield wire


def through(wire: Wire) -> str:
    return f"http://127.0.0.1:{wire.port}/{ACCOUNT}"


def quiet(text: str) -> None: ...


def refusal(store: Store, wanted: Wanted) -> str:
    with pytest.raises(WeightsError) as refused:
        store.ready(wanted, quiet)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def assert_is_the_model(directory: Path, model: Path = DEMO) -> None:
    assert files_of(directory) == files_of(model)
    assert all((directory / name).read_bytes() == (model / name).read_bytes() for name in files_of(model))


def test_a_model_is_fetched_once_verified_and_then_needs_no_storage(tmp_path: Path, azurite: Azurite) -> None:
    source, said = stored(azurite), list[str]()
    directory = store_in(tmp_path, azurite.endpoint).ready(wanted(source), said.append)
    assert_is_the_model(directory)
    assert directory == tmp_path / "models" / digest_of(DEMO).replace(":", "-")
    assert said[0] == "0.00 of 0.01 GB" and "MB/s" in said[-2] and said[-1] == "verifying"
    assert [path.name for path in directory.parent.iterdir() if path.name.startswith("partial")] == []
    assert store_in(tmp_path, "http://127.0.0.1:1/nowhere").ready(wanted(source), quiet) == directory


def test_folders_that_tools_leave_as_blobs_and_hidden_files_are_left_out(tmp_path: Path, azurite: Azurite) -> None:
    source = stored(azurite)
    container = azurite.container(source.container)
    container.upload_blob(f"{source.prefix}/", b"")
    container.upload_blob(f"{source.prefix}/onnx", b"", metadata={"hdi_isfolder": "true"})
    container.upload_blob(f"{source.prefix}/.cache/huggingface/download.lock", b"")
    assert_is_the_model(store_in(tmp_path, azurite.endpoint).ready(wanted(source), quiet))


def test_a_whole_container_and_an_empty_file_can_be_a_model(tmp_path: Path, azurite: Azurite) -> None:
    model = copied(tmp_path)
    (model / "deep" / "er").mkdir(parents=True)
    (model / "deep" / "er" / "empty.json").touch()
    source = BlobSource(ACCOUNT, "a-whole-container", "")
    container = azurite.container(source.container)
    for name in files_of(model):
        container.upload_blob(name, (model / name).read_bytes())
    assert_is_the_model(store_in(tmp_path, azurite.endpoint).ready(wanted(source, model), quiet), model)


def test_a_killed_download_goes_on_where_it_was(tmp_path: Path, azurite: Azurite, wire: Wire) -> None:
    want = wanted(stored(azurite))
    wire.hold_at(SIZE // 2)
    first = pulling(through(wire), tmp_path, want)
    assert wire.reached.wait(30)
    time.sleep(1)  # what came down is written
    first.kill()
    first.wait()
    before = wire.down
    wire.release()
    second = pulling(through(wire), tmp_path, want)
    out, _ = second.communicate(timeout=60)
    verifying, ready = out.splitlines()
    assert verifying == "verifying"
    fetched_again = wire.down - SIZE
    assert wire.down - before < SIZE * 0.7
    assert 0 < fetched_again < CONNECTIONS * PIECE + OVERHEAD, "the pieces that were under way, no more"
    assert_is_the_model(Path(ready.removeprefix("ready ")))


def test_a_connection_that_breaks_costs_its_piece(tmp_path: Path, azurite: Azurite, wire: Wire) -> None:
    wire.break_at(SIZE // 2)
    assert_is_the_model(store_in(tmp_path, through(wire)).ready(wanted(stored(azurite)), quiet))
    assert wire.reached.is_set() and wire.down - SIZE < PIECE + OVERHEAD


def test_storage_that_restarts_in_the_middle_is_waited_for(tmp_path: Path, azurite_of_my_own: Azurite) -> None:
    azurite = azurite_of_my_own
    with Wire(azurite.port) as wire, ThreadPoolExecutor() as pool:
        want = wanted(stored(azurite))
        wire.hold_at(SIZE // 2)
        pulled = pool.submit(store_in(tmp_path, through(wire)).ready, want, quiet)
        assert wire.reached.wait(30)
        wire.refuse()
        azurite.stop()
        assert not pulled.done()
        azurite.start()
        wire.release()
        assert_is_the_model(pulled.result(60))
        assert wire.down - SIZE < 2 * CONNECTIONS * PIECE + OVERHEAD


def test_storage_that_stays_away_is_given_up_and_what_is_here_is_kept(
    tmp_path: Path, azurite: Azurite, wire: Wire
) -> None:
    with ThreadPoolExecutor() as pool:
        want = wanted(stored(azurite))
        wire.hold_at(SIZE // 2)
        pulled = pool.submit(store_in(tmp_path, through(wire), waits=(0.1, 0.2)).ready, want, quiet)
        assert wire.reached.wait(30)
        wire.refuse()
        with pytest.raises(WeightsError, match=r"no connection, or none that can be trusted"):
            pulled.result(30)
        wire.release()
        before = wire.down
        store_in(tmp_path, through(wire)).ready(want, quiet)
        assert wire.down - before < SIZE * 0.75


def test_storage_that_falls_silent_is_unreachable_in_bounded_time(azurite_of_my_own: Azurite) -> None:
    source = stored(azurite_of_my_own)
    blobs = Blobs(source, endpoint=azurite_of_my_own.endpoint, piece=PIECE, seconds=0.5, credential=lambda: KEY)
    listing = blobs.listing()
    azurite_of_my_own.pause()
    began = time.monotonic()
    for ask in (blobs.listing, lambda: blobs.read(listing[0], 0)):
        with pytest.raises(Unreachable):
            ask()
    assert time.monotonic() - began < 10
    azurite_of_my_own.resume()


def test_what_is_not_the_pinned_model_is_never_served_and_not_fetched_twice(
    tmp_path: Path, azurite: Azurite, wire: Wire
) -> None:
    source = stored(azurite)
    wrong, store = Wanted(source, "sha256:" + "0" * 64), store_in(tmp_path, through(wire))
    said = refusal(store, wrong)
    assert str(source) in said and digest_of(DEMO) in said and str(wrong.digest) in said
    assert store.present(wrong) is None
    before = wire.down
    assert refusal(store, wrong) == said
    assert_is_the_model(store.ready(wanted(source), quiet))
    assert wire.down - before < OVERHEAD, "the pin was corrected, the bytes are the same"


def test_weights_that_change_on_the_disk_after_they_were_verified_are_not_served(
    tmp_path: Path, azurite: Azurite
) -> None:
    want, store = wanted(stored(azurite)), store_in(tmp_path, azurite.endpoint)
    directory = store.ready(want, quiet)
    with (directory / "model.safetensors").open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"\0" if file.read(1) != b"\0" else b"\1")
    assert f"{directory} stays until you delete it" in refusal(store, want)


def test_a_blob_that_changes_meanwhile_begins_anew(tmp_path: Path, azurite: Azurite, wire: Wire) -> None:
    source, changed = stored(azurite), copied(tmp_path)
    weights = bytearray((changed / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (changed / "model.safetensors").write_bytes(weights)
    wire.hold_at(SIZE // 2)
    with ThreadPoolExecutor() as pool:
        store = store_in(tmp_path, through(wire))
        pulled = pool.submit(store.ready, wanted(source, changed), quiet)
        assert wire.reached.wait(30)
        put(azurite, source, changed)
        azurite.container(source.container).delete_blob(f"{source.prefix}/README.md")
        (changed / "README.md").unlink()
        wire.release()
        with pytest.raises(WeightsError, match="is pinned"):
            pulled.result(60)
        assert_is_the_model(store.ready(wanted(source, changed), quiet), changed)


def test_blobs_that_never_stop_changing_are_given_up(tmp_path: Path, azurite: Azurite) -> None:
    source, stop = stored(azurite), threading.Event()
    blob = azurite.container(source.container).get_blob_client(f"{source.prefix}/config.json")

    def touch() -> None:
        while not stop.is_set():
            blob.set_blob_metadata({"touched": str(time.monotonic_ns())})  # another etag

    with ThreadPoolExecutor() as pool:
        touching = pool.submit(touch)
        try:
            assert "keeps changing" in refusal(store_in(tmp_path, azurite.endpoint), wanted(source))
        finally:
            stop.set()
        touching.result(10)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "deep/consolidated.00.PTH", "modeling_evil.py", "x.msgpack"])
def test_pickles_and_code_are_refused_before_anything_is_fetched(
    tmp_path: Path, azurite: Azurite, wire: Wire, name: str
) -> None:
    source = stored(azurite)
    azurite.container(source.container).upload_blob(f"{source.prefix}/{name}", b"x")
    said = refusal(store_in(tmp_path, through(wire)), wanted(source))
    assert f"{source} holds {name}" in said and "model.allow_pickle" in said and wire.down < OVERHEAD


def test_who_allows_pickles_gets_them(tmp_path: Path, azurite: Azurite) -> None:
    model = copied(tmp_path)
    (model / "pytorch_model.bin").write_bytes(b"x")
    want = wanted(stored(azurite, model), model, allow_pickle=True)
    assert_is_the_model(store_in(tmp_path, azurite.endpoint).ready(want, quiet), model)


def test_two_processes_download_once(tmp_path: Path, azurite: Azurite, wire: Wire) -> None:
    want = wanted(stored(azurite))
    wire.hold_at(SIZE // 2)
    first = pulling(through(wire), tmp_path, want)
    assert wire.reached.wait(30)
    second = pulling(through(wire), tmp_path, want)
    assert second.stdout and second.stdout.readline() == "waiting for another process that has begun\n"
    wire.release()
    outs = [one.communicate(timeout=60)[0].splitlines() for one in (first, second)]
    assert outs[0][-1].startswith("ready ") and outs[1] == outs[0][-1:]
    assert wire.down < SIZE + OVERHEAD


def test_too_small_a_disk_is_told_before_anything_is_fetched(tmp_path: Path, azurite: Azurite, wire: Wire) -> None:
    store = store_in(tmp_path, through(wire), free=lambda folder: SIZE)
    assert "0.0 GB are to come" in (said := refusal(store, wanted(stored(azurite)))) and "weights.folder" in said
    assert wire.down < OVERHEAD


def test_a_disk_that_is_full_in_the_middle_is_told(tmp_path: Path, azurite: Azurite) -> None:
    out, _ = pulling(azurite.endpoint, tmp_path, wanted(stored(azurite)), "1000000").communicate(timeout=60)
    assert out.startswith("refused ") and "cannot be written to" in out and "File too large" in out


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path, azurite: Azurite) -> None:
    (tmp_path / "models").write_text("no folder")
    assert f"{tmp_path}/models cannot be used" in refusal(store_in(tmp_path, azurite.endpoint), wanted(stored(azurite)))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (BlobSource(ACCOUNT, "nowhere", "x"), "there is no such container"),
        (BlobSource(ACCOUNT, "known", "x"), "there is nothing at az://devstoreaccount1/known/x"),
    ],
)
def test_a_place_that_is_not_there_is_told_at_once(
    tmp_path: Path, azurite: Azurite, source: BlobSource, said: str
) -> None:
    azurite.container("known")
    assert said in refusal(store_in(tmp_path, azurite.endpoint), Wanted(source, "sha256:" + "0" * 64))


def test_an_identity_reads_over_tls(tmp_path: Path, azurite_over_tls: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(azurite_over_tls.authority))
    identity, want = Identity(), wanted(stored(azurite_over_tls))
    store = store_in(tmp_path, azurite_over_tls.endpoint, credential=lambda: SignIn(identity))
    assert_is_the_model(store.ready(want, quiet))
    assert identity.asked == ["https://storage.azure.com/.default"]


def test_a_pods_identity_signs_in_at_entra_and_reads(
    tmp_path: Path,
    azurite_over_tls: Azurite,
    cloud: StandIn,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes((tmp_path / "tests.pem").read_bytes() + azurite_over_tls.authority.read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authorities))
    monkeypatch.setattr("tests.test_vault.ACCESS", token())
    sign_in = SignIn(default_credential(seconds=10, known_cloud=False))
    store = store_in(tmp_path, azurite_over_tls.endpoint, credential=lambda: sign_in)
    assert_is_the_model(store.ready(wanted(stored(azurite_over_tls)), quiet))
    assert len(cloud.exchanged) == 1


def test_an_identity_that_is_refused_is_told_and_not_tried_again(
    tmp_path: Path, azurite_over_tls: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(azurite_over_tls.authority))
    want = wanted(stored(azurite_over_tls))
    identity = Identity(audience="https://elsewhere")
    store = store_in(tmp_path, azurite_over_tls.endpoint, credential=lambda: SignIn(identity))
    assert "needs the role 'Storage Blob Data Reader'" in refusal(store, want)
    assert len(identity.asked) == 1
