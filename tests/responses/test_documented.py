"""The page about responses says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serving.protocol.responses.request import FORBIDDEN, ResponsesRequest
from serving.responses.response import UnknownPrevious
from tests.local import listening
from tests.responses.conftest import DAY, OpenPlace

PAGE = (Path(__file__).parents[2] / "docs" / "responses.md").read_text()


@pytest.mark.parametrize("kept", [None, DAY])
async def test_its_example_runs_whether_responses_are_kept_or_not(
    place: OpenPlace, kept: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    here = place()
    await here.keep(kept)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with listening(here.site.app) as url:
        replaced = {"http://127.0.0.1:8000": url, "csk_...": here.hospital.keys["ward_user"], "clinical-demo": "echo"}
        for theirs, ours in replaced.items():
            assert theirs in code
            code = code.replace(theirs, ours)
        exec(compile(code, "docs/responses.md", "exec"), {})
    said = capsys.readouterr().out
    assert "penicillin" in said and "lisinopril" in said
    assert bool(re.search("queued|in_progress|completed", said)) == bool(kept)


def test_the_fields_and_codes_that_it_names_exist() -> None:
    refused = re.search(r"\| (`conversation`.*?) \| refused", PAGE)
    assert refused and set(re.findall(r"`(\w+)`", refused[1])) <= FORBIDDEN.keys()
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)))
    assert set(named) - FORBIDDEN.keys() <= ResponsesRequest.model_fields.keys()
    assert f"400 `{UnknownPrevious.code}`" in PAGE
