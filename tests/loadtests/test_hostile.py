"""The drill of attacks without a product: its table, its arithmetic, and that each attack can be made."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import psutil
import pytest

from loadtests.hostile.__main__ import arguments, chosen
from loadtests.hostile.attack import Attack, Section
from loadtests.hostile.attacks import ATTACKS
from loadtests.hostile.bystander import Sample
from loadtests.hostile.judged import Found, Quiet, growth, longest_lag, restarted
from loadtests.hostile.product import Vitals
from loadtests.hostile.results import Results
from loadtests.hostile.samples import first_tokens, percentile
from loadtests.hostile.table import in_markdown, written
from loadtests.hostile.wire import Mallory, Target

QUIET = Quiet(p50=0.02, p99=0.04, lag=0.01, in_flight=1)


def attack(name: str) -> Attack:
    return next(one for one in ATTACKS if one.name == name)


def found(**more: object) -> Found:
    fine = Found(
        attack("openapi.json"), {"200": 5}, {}, requests=40, p50=0.02, p99=0.05, counted=30, void=0, lag=0.025,
        grown={}, restarted=(), calm_s=1.0, stored=0,
    )  # fmt: skip
    return replace(fine, **more)  # type: ignore[arg-type]


def vitals(**more: object) -> Vitals:
    return replace(Vitals({}, {}, {}, {}, 0.0, 0), **more)  # type: ignore[arg-type]


def test_there_are_attacks_of_every_section_each_with_a_name_of_its_own() -> None:
    assert len(ATTACKS) >= 40 and len({one.name for one in ATTACKS}) == len(ATTACKS)
    assert {one.section for one in ATTACKS} == set(get_args(Section)) == {one.section for one in ATTACKS if one.short}


@pytest.mark.parametrize("one", ATTACKS, ids=lambda one: one.name)
def test_no_attack_may_get_an_error_of_the_server_that_is_not_documented(one: Attack) -> None:
    assert one.what and one.gets
    assert {outcome for outcome in one.gets if outcome.startswith("5")} <= {"501", "503", "505", "507"}


@pytest.fixture
def target(unused_tcp_port: int) -> Target:
    return Target("127.0.0.1", unused_tcp_port, "m", "key", "bound", "127.0.0.2", 0.1, "Zephyrine", (unused_tcp_port,))


@pytest.mark.parametrize("one", ATTACKS, ids=lambda one: one.name)
async def test_each_attack_reaches_its_target_and_ends(one: Attack, target: Target) -> None:
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(refuse, target.host, target.port):
        mallory = Mallory(target)
        await asyncio.wait_for(one.run(mallory), 20)
    assert connections and mallory.tally and connections < 2000


async def test_what_an_attacker_gets_is_told_apart(target: Target) -> None:
    mallory = Mallory(target)
    assert (await mallory.ask(b"x")).outcome == "unreachable"
    answers = iter([b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", b"", None])

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (answer := next(answers)) is None:
            await asyncio.sleep(5)
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(say, target.host, target.port):
        outcomes = [(await mallory.ask(b"x", patience=0.3)).outcome for _ in range(3)]
    assert outcomes == ["204", "closed", "silent"]
    assert mallory.tally == {"unreachable": 1, "204": 1, "closed": 1, "silent": 1}


def test_nothing_is_at_fault_where_all_held() -> None:
    assert found().faults(QUIET) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"failures": {"stream: status 503": 2}}, "bystander: 2 stream: status 503"),
        ({"p99": 0.131}, "TTFT p99 131 ms"),
        ({"lag": 0.25}, "lag up to 250 ms"),
        ({"lag": math.inf}, "lag above 2.5 s"),
        ({"restarted": ["engine replica"]}, "restarted: engine replica"),
        ({"kept": ["gateway"]}, "memory kept: gateway"),
        ({"got": {"200": 3, "500": 1}}, "answers: 500"),
        ({"got": {}}, "the attacker got nothing"),
        ({"calm_s": math.inf}, "not as before"),
        ({"stored": 5}, "5 bytes of files left"),
        ({"leaked": ["worker.out"]}, "its text is in worker.out"),
        ({"counted": 3, "void": 4}, "void: the bystander was late"),
    ],
)  # fmt: skip
def test_each_part_of_the_bar_is_told(more: dict[str, object], said: str) -> None:
    assert found(**more).faults(QUIET) == [said]


def test_the_longest_lag_is_the_highest_bucket_that_has_grown() -> None:
    before = vitals(lag={0.01: 10, 0.1: 12, 1.0: 12, math.inf: 12})
    assert longest_lag(before, vitals(lag={0.01: 14, 0.1: 17, 1.0: 17, math.inf: 17})) == 0.1
    assert longest_lag(before, vitals(lag={0.01: 14, 0.1: 16, 1.0: 16, math.inf: 17})) == math.inf
    assert longest_lag(before, before) == 0.0


def test_a_process_that_is_gone_or_new_counts_as_restarted_if_it_should_last() -> None:
    one, two = psutil.Process(), psutil.Process(1)
    before = vitals(processes={one: "gateway", two: "other"})
    assert restarted(before, vitals(processes={one: "gateway"})) == []
    assert restarted(before, vitals(processes={two: "other"})) == ["gateway"]
    assert restarted(before, vitals(processes={one: "gateway", two: "engine"})) == ["engine"]


def test_growth_is_told_by_role() -> None:
    assert growth(vitals(rss={"gateway": 5}), vitals(rss={"gateway": 7, "engine": 1})) == {"gateway": 2, "engine": 1}


def test_a_bystander_who_was_late_says_nothing_about_the_product() -> None:
    samples = [Sample("stream", 0.0, 1.0, first, "", late) for first, late in ((0.2, 0.0), (0.9, 0.5), (0.1, 0.001))]
    assert first_tokens([*samples, Sample("readyz", 0.0, 1.0, None, "", 0.0)]) == ([0.1, 0.2], 1)
    assert percentile([0.1, 0.2], 0.99) == 0.2 and math.isnan(percentile([], 0.5))


def test_the_short_form_and_single_attacks_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert [one.name for one in chosen(arguments(["--only", "docs"]))] == ["docs"]
    assert {one.section for one in chosen(arguments(["--only", "bodies"]))} == {"bodies"}
    assert 10 <= len(chosen(arguments(["--quick"]))) < len(chosen(arguments([])))
    with pytest.raises(SystemExit):
        arguments(["--only", "nothing"])
    assert "nothing" in capsys.readouterr().err


def test_the_table_says_what_each_attack_was_and_what_broke(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json", {"commit": "abc"}, earlier=False)
    results.keep([found(), found(restarted=["engine"])], QUIET)
    text = in_markdown(results.runs)
    assert "commit abc" in text and attack("openapi.json").what in text and "restarted: engine" in text
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("| ")}) == 1


def test_a_run_goes_on_with_what_another_left_out(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    Results(file, {"commit": "abc"}, earlier=True).keep([found(p99=9.0)], QUIET)
    second = Results(file, {"commit": "def"}, earlier=True)
    assert second.done == {"openapi.json"} == set(second.broken)
    second.keep([found(attack=attack("docs"))], QUIET)
    assert "commit abc" in (text := in_markdown(second.runs)) and "commit def" in text
    assert Results(file, {}, earlier=True).done == {"openapi.json", "docs"}
    assert Results(file, {}, earlier=False).done == set()


def test_a_page_keeps_what_stands_around_its_table(tmp_path: Path) -> None:
    page = tmp_path / "hostile.md"
    page.write_text("# Before\n<!-- attacks -->\nold\n<!-- /attacks -->\nAfter\n")
    written(page, "new\n")
    assert page.read_text() == "# Before\n<!-- attacks -->\nnew\n<!-- /attacks -->\nAfter\n"
