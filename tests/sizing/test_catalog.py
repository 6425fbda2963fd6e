"""The catalogue's files: closed, honest about their sources, and found by the names that people use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.sizing.catalog import BUNDLED, UNPINNED, CatalogError, catalog, entry_named
from serving.sizing.errors import UnknownModel

MODELS = catalog()


def changed(folder: Path, **changes: Any) -> Path:
    """A catalogue with one entry, which differs."""
    tree = yaml.safe_load((BUNDLED / "med42-v2-8b.yaml").read_text())
    (folder / "med42-v2-8b.yaml").write_text(yaml.safe_dump(tree | changes))
    return folder


def test_the_models_that_a_hospital_asks_for_first_are_there() -> None:
    asked = {"medgemma-27b-text", "medgemma-4b", "medgemma-1.5-4b", "baichuan-m2-32b", "med42-v2-8b", "med42-v2-70b"}
    assert asked <= MODELS.keys() and len(MODELS) >= 15


@pytest.mark.parametrize("name", MODELS)
def test_every_entry_says_where_its_facts_are_from_and_what_it_may_be_used_for(name: str) -> None:
    entry = MODELS[name]
    assert entry.licence.clinical_use and entry.template
    assert (entry.revision == UNPINNED) == (not entry.checked.revision.startswith("read:")), "a commit must be seen"


def test_a_mistake_in_a_file_is_told_with_the_nearest_right_name(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"med42-v2-8b.yaml: licens: unknown; did you mean 'licence'\?"):
        catalog(changed(tmp_path, licens={}))
    with pytest.raises(CatalogError, match=r"config.hiden_size: not a size; did you mean 'hidden_size'\?"):
        catalog(changed(tmp_path, config=MODELS["med42-v2-8b"].config | {"hiden_size": 1}))
    with pytest.raises(CatalogError, match="no number 'vocab_size'"):
        catalog(changed(tmp_path, config={"hidden_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1}))
    with pytest.raises(CatalogError, match="context: more than max_position_embeddings, 8192"):
        catalog(changed(tmp_path, context=9000))


@pytest.mark.parametrize("revision", ["main", "ceab7e7", "latest"])
def test_a_revision_is_a_whole_commit_or_says_that_there_is_none(tmp_path: Path, revision: str) -> None:
    with pytest.raises(CatalogError, match="revision"):
        catalog(changed(tmp_path, revision=revision))


def test_a_fact_without_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"checked\.licence"):
        catalog(changed(tmp_path, checked=MODELS["med42-v2-8b"].checked.model_dump() | {"licence": "surely"}))


def test_a_file_has_its_models_name_and_an_empty_folder_is_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no catalogue in"):
        catalog(tmp_path)
    with pytest.raises(CatalogError, match="name: 'other' is not the file's"):
        catalog(changed(tmp_path, name="other"))


def test_a_model_is_found_by_its_name_and_by_its_hugging_face_id() -> None:
    wanted = MODELS["baichuan-m2-32b"]
    for name in ("baichuan-m2-32b", "Baichuan-M2-32B", "baichuan-inc/Baichuan-M2-32B", f"hf://{wanted.source}"):
        assert entry_named(name, MODELS) is wanted
    with pytest.raises(UnknownModel, match="did you mean medgemma-27b-text"):
        entry_named("google/medgemma-27b-text", MODELS)
