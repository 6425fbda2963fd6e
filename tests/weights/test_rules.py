"""What a source may say, which files a model may hold, and what its digest is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from serving.weights.blobs import Blob
from serving.weights.digest import Digests, digest_of
from serving.weights.files import check_kinds, files_of
from serving.weights.partial import Partial
from serving.weights.source import BlobSource, FolderSource, HubSource, Source, WeightsError, parse
from serving.weights.store import Wanted
from tests.weights.models import DEMO, copied, store_in

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("az://account1/models/medgemma/27b", BlobSource("account1", "models", "medgemma/27b")),
        ("az://account1/models/x/", BlobSource("account1", "models", "x")),
        ("az://account1/models", BlobSource("account1", "models", "")),
        ("hf://google/medgemma-27b-text-it", HubSource("google/medgemma-27b-text-it", None)),
        ("gpt2", HubSource("gpt2", None)),
        ("/data/model", FolderSource(Path("/data/model"))),
    ],
)
def test_a_source_is_a_blob_prefix_a_hub_name_or_a_directory(text: str, source: Source) -> None:
    assert parse(text) == source
    assert parse(str(source)) == source


@pytest.mark.parametrize(
    "text",
    [
        "https://a.blob.core.windows.net/models/x", "s3://bucket/x", "az://account1", "az://Account1/models/x",
        "az://account1/models/../x", "az://account1/models/x//y", "az://a.b/models/x", "hf://a/b/c", "hf://", "a b",
        "az://account1/models/x?sig=1\n",
    ],
)  # fmt: skip
def test_anything_else_is_answered_with_the_forms_that_there_are(text: str) -> None:
    if text.startswith("az://account1/models/x?"):
        text = text.replace("?sig=1\n", "/./y")
    with pytest.raises(WeightsError, match="az://ACCOUNT/CONTAINER/PREFIX"):
        parse(text)


def test_only_a_commit_pins_a_hub_name() -> None:
    assert HubSource("a/b", "0" * 40).pinned
    assert not any(HubSource("a/b", revision).pinned for revision in (None, "main", "v1", "0" * 39))


@pytest.mark.parametrize(
    "name",
    ["a.bin", "a.pt", "A.PTH", "a.pkl", "a.ckpt", "tf_model.h5", "flax_model.msgpack", "deep/er/modeling.py", "a.npz"],
)
def test_what_can_run_code_when_it_is_loaded_is_refused_by_name_and_setting(name: str) -> None:
    with pytest.raises(WeightsError) as refused:
        check_kinds(["config.json", name], allow_pickle=False, of="here")
    assert f"here holds {name}" in str(refused.value) and "model.allow_pickle" in str(refused.value)
    check_kinds([name], allow_pickle=True, of="here")


def test_what_a_model_usually_holds_is_let_in() -> None:
    names = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.model", "merges.txt"]
    check_kinds([*names, "chat_template.jinja", "LICENSE", "README.md", "x.gguf"], allow_pickle=False, of="here")


def test_many_refused_files_are_counted() -> None:
    with pytest.raises(WeightsError, match=r"0\.bin, 1\.bin, 2\.bin and 7 more"):
        check_kinds([f"{number}.bin" for number in range(10)], allow_pickle=False, of="here")


def test_a_digest_is_what_the_documented_line_prints(tmp_path: Path) -> None:
    model = copied(tmp_path)
    for name in ("a.b", "a/b", "Z", "ä", "a b", "a/.hidden", ".git/config"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text(name) if name != "a/b" else None
    (model / "a" / "b").write_text("x")
    (model / "link").symlink_to(model / "config.json")
    page = (ROOT / "docs" / "weights.md").read_text()
    line = next(line for line in page.splitlines() if "sha256sum" in line and "find" in line)
    done = subprocess.run(["bash", "-c", line], cwd=model, capture_output=True, text=True, check=True)
    assert digest_of(model) == f"sha256:{done.stdout.split()[0]}"


@pytest.mark.parametrize("change", ["rename", "content", "more", "less"])
def test_every_change_is_another_digest(tmp_path: Path, change: str) -> None:
    model = copied(tmp_path)
    file = model / "config.json"
    if change == "rename":
        file.rename(model / "config2.json")
    elif change == "content":
        file.write_bytes(file.read_bytes() + b" ")
    elif change == "more":
        (model / "more.json").touch()
    else:
        file.unlink()
    assert digest_of(model) != digest_of(DEMO)


def test_a_directory_is_hashed_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    model, digests = copied(tmp_path), Digests(tmp_path / "deep" / "cache.json")
    assert digests.of(model) == digest_of(DEMO)
    cached = (tmp_path / "deep" / "cache.json").read_text()
    assert Digests(tmp_path / "deep" / "cache.json").of(model) == digest_of(DEMO)
    assert (tmp_path / "deep" / "cache.json").read_text() == cached
    (model / "config.json").write_text("{}")
    assert digests.of(model) == digest_of(model) != digest_of(DEMO)


@pytest.mark.parametrize("cache", ["{", "[]", "7", '{"other": {}}'])
def test_a_cache_that_is_spoilt_or_cannot_be_written_only_costs_time(tmp_path: Path, cache: str) -> None:
    (tmp_path / "cache.json").write_text(cache)
    assert Digests(tmp_path / "cache.json").of(DEMO) == digest_of(DEMO)
    assert Digests(tmp_path / "cache.json" / "below").of(DEMO) == digest_of(DEMO)


def test_a_directory_without_files_has_no_digest(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(WeightsError, match="holds no files"):
            digest_of(directory)


def test_a_local_directory_is_checked_like_any_other(tmp_path: Path) -> None:
    model, store = copied(tmp_path), store_in(tmp_path, "")
    source = FolderSource(model)
    assert store.ready(Wanted(source), print) == store.ready(Wanted(source, digest_of(DEMO)), print) == model
    with pytest.raises(WeightsError, match="is pinned"):
        store.ready(Wanted(source, "sha256:" + "0" * 64), print)
    (model / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
        store.ready(Wanted(source), print)
    with pytest.raises(WeightsError, match="there is no directory"):
        store.ready(Wanted(FolderSource(tmp_path / "nowhere")), print)


def test_a_part_remembers_its_pieces_and_another_version_begins_anew(tmp_path: Path) -> None:
    blob = Blob("deep/er.safetensors", 25, "one")
    part = Partial(tmp_path, blob, 10)
    assert (part.missing(), part.left()) == ([0, 10, 20], 25)
    part.keep(20, b"12345")
    part.keep(0, b"0123456789")
    again = Partial(tmp_path, blob, 10)
    assert (again.missing(), again.left()) == ([10], 10)
    for other in (Blob(blob.name, 25, "two"), Blob(blob.name, 24, "two"), Blob(blob.name, 24, "three")):
        assert Partial(tmp_path, other, 10).missing() == [0, 10, 20]
    Partial(tmp_path, blob, 10).keep(0, b"0123456789")
    assert Partial(tmp_path, blob, 5).missing() == [0, 5, 10, 15, 20], "pieces of another size"
    (tmp_path / "files" / blob.name).unlink()
    assert Partial(tmp_path, blob, 5).missing() == [0, 5, 10, 15, 20]


def test_hidden_files_and_folders_are_no_part_of_a_model(tmp_path: Path) -> None:
    for name in ("b.json", "a/c.json", ".hidden", ".cache/x", "a/.git/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files_of(tmp_path) == ["a/c.json", "b.json"]
