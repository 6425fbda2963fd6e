"""The overhead bench's arithmetic, tables, pictures and file, on rounds that nobody measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.overhead import plots, report, tables
from loadtests.overhead.answer import Timing
from loadtests.overhead.client import Result
from loadtests.overhead.peers import PEERS
from loadtests.overhead.processes import ENGINE
from loadtests.overhead.rounds import TTFT, WHOLE, Load, Phase, Round, loaded

LOAD = Load(streams=(1, 64))


def a_round(peer: str, number: int, tokens_per_s: float, ttft: float, outside: float) -> Round:
    """outside: µs of CPU a token that are not the engine's."""
    timing = Timing(ttft=ttft, e2e=1.0, tpot=0.002, tokens=100, frames=100)
    result = Result(wall_s=100 / tokens_per_s, client_cpu_s=0.0, timings=[timing], gaps={0: 40, 200: 58, 900: 2})
    cpu = {ENGINE: 5.0, "api server": outside * 75e-6, "ray": outside * 25e-6}
    phase = Phase(result, cpu, foreign_cpu_s=0.0)
    memory = {ENGINE: 2e9, "api server": number * 2.0**20}
    return Round("model", peer, number, dict.fromkeys((TTFT, loaded(1), loaded(64), WHOLE), phase), memory)


ROUNDS = [
    a_round("bare", 1, 1000, 0.010, 100),
    a_round("product", 1, 800, 0.015, 200),
    a_round("product", 2, 1800, 0.028, 260),
    a_round("bare", 2, 2000, 0.020, 120),
]


def test_peers_are_compared_with_the_bare_engine_of_their_round() -> None:
    product = report.summarise(ROUNDS, LOAD, "model")["product"]
    against = {name: value.against.values for name, value in product.items() if value.against}
    assert against["throughput_64"] == pytest.approx([0.8, 0.9])
    assert against["ttft_p50_1"] == pytest.approx([5.0, 8.0])
    assert against["cpu_outside_engine_64"] == pytest.approx([100, 140])
    assert against["itl_p50_64"] == [0.0, 0.0]
    assert product["throughput_64"].json()["ratio"] == {"median": 0.85, "min": 0.8, "max": 0.9, "rounds": [0.8, 0.9]}
    assert product["throughput_64"].here == report.Spread([800, 1800])


def test_the_other_engines_rounds_do_not_count() -> None:
    other = [replace(r, engine="echo") for r in ROUNDS]
    assert report.summarise(other, LOAD, "model") == {}
    both = report.summarise(ROUNDS + other, LOAD, "model")
    assert both["product"]["throughput_64"].here.values == [800, 1800]


def test_time_between_tokens_memory_and_requests_of_a_core_are_read_from_a_round() -> None:
    bare = report.summarise(ROUNDS[:1], LOAD, "model")["bare"]
    assert bare["itl_p50_64"].here.values == [2.0]
    assert bare["itl_p99_64"].here.values == [9.0]
    assert bare["memory"].here.values == [1.0], "the engine's is left out"
    assert bare["requests_per_core"].here.values == pytest.approx([1 / (100 * 100e-6)])


def test_cpu_per_token_leaves_the_engine_out_and_is_split_by_role() -> None:
    assert report.cpu_split(ROUNDS, LOAD, "model")["product"] == pytest.approx({"api server": 172.5, "ray": 57.5})


def test_an_engine_inside_a_replica_is_counted_with_it() -> None:
    phase = Phase(ROUNDS[0].phases[WHOLE].result, {"engine replica": 1e-3}, 0.0, engine_apart=False)
    assert phase.cpu_us_per_token() == pytest.approx({"engine replica": 10.0})
    assert replace(phase, engine_apart=True).cpu_us_per_token() is None


def test_one_peer_alone_and_processes_out_of_sight_leave_gaps_and_no_error() -> None:
    unseen = {name: replace(phase, cpu=None) for name, phase in ROUNDS[1].phases.items()}
    lone = replace(ROUNDS[1], phases=unseen, memory={})
    values = report.summarise([lone], LOAD, "model")["product"]
    assert not {"cpu_outside_engine_64", "requests_per_core", "memory"} & values.keys()
    assert values["throughput_64"].against is None
    assert report.cpu_split([lone], LOAD, "model") == {}


def test_percentiles_are_interpolated() -> None:
    assert report.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert report.percentile([0.0, 10.0], 0.95) == pytest.approx(9.5)
    assert report.percentile([7.0], 0.95) == 7.0


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 1), (0.98, 1), (0.99, 5), (1.0, 5)])
def test_percentiles_of_counts_are_those_of_the_values(share: float, value: int) -> None:
    assert report.percentile_of_counts({5: 2, 1: 98}, share) == value


def test_a_busy_machine_and_an_unseen_engine_are_said_aloud() -> None:
    loud = replace(ROUNDS[0].phases[WHOLE], cpu={"other": 1.0}, foreign_cpu_s=0.05)
    (busy, unseen) = report.warnings([replace(ROUNDS[0], phases={loaded(64): loud})])
    assert "others used 0.50 cores" in busy
    assert "no engine process found" in unseen


def test_a_peer_that_failed_halfway_keeps_what_it_gave_and_says_why() -> None:
    half = replace(ROUNDS[1], phases={loaded(1): ROUNDS[1].phases[loaded(1)]}, memory={})
    summary = report.summarise([ROUNDS[0], half], LOAD, "model")
    outcome = tables.outcome("7 of 256 requests failed, so this run says nothing:\n  HTTP 503: busy")
    rates, *_ = tables.sheets("model", summary, {"product": outcome}, LOAD)
    (product,) = [row for row in rates.rows if row[0] == PEERS["product"].title]
    assert product[1].startswith("800 · 0.80")
    assert product[2] == "failed: 7 of 256 requests failed, so this run says nothing: HTTP 503: busy"


def test_a_peer_that_is_not_installed_has_a_row_that_says_so() -> None:
    summary = report.summarise(ROUNDS, LOAD, "model")
    for sheet in tables.sheets("model", summary, {"litellm": "not installed; make bench-litellm"}, LOAD):
        assert list(sheet.rows[-1][1:3]) == ["not installed; make bench-litellm", "-"]


def test_the_markdown_has_every_peer_its_ranges_and_how_it_was_started() -> None:
    sheets = tables.sheets("model", report.summarise(ROUNDS, LOAD, "model"), {}, LOAD)
    text = tables.markdown(sheets, {"model": {"product": ["serve --port 1"]}}, ["2 cores", "rounds: 2"])
    assert "| clinserve: Ray Serve, HAProxy, gateway | 1,300 · 0.85 (0.80 to 0.90) |" in text
    assert "+6.5 (+5.0 to +8.0)" in text
    assert "serve --port 1" in text
    assert text.startswith("2 cores, rounds: 2\n")
    columns = {line.count("|") for line in text.splitlines() if "bare engine |" in line}
    assert columns == {len(sheets[0].columns) + 2, len(sheets[1].columns) + 2, len(sheets[-1].columns) + 2}


def test_without_the_bare_engine_latencies_are_not_called_added() -> None:
    sheets = tables.sheets("model", report.summarise(ROUNDS[1:3], LOAD, "model"), {}, LOAD)
    assert "no bare engine was measured" in sheets[1].title


def test_every_peer_has_a_colour_and_gaps_draw_nothing(tmp_path: Path) -> None:
    assert plots.COLOURS.keys() == PEERS.keys()
    summary = dict(report.summarise(ROUNDS, LOAD, "model")) | {"litellm": {}}
    plots.draw(tmp_path / "model.png", "t", summary, report.cpu_split(ROUNDS, LOAD, "model"), LOAD)
    plots.draw(tmp_path / "none.png", "t", {}, {}, LOAD)
    assert (tmp_path / "model.png").stat().st_size > 10_000


def test_the_file_holds_the_summary_and_each_timing(tmp_path: Path) -> None:
    report.write(tmp_path / "new" / "overhead.json", report.document(ROUNDS, LOAD, {"seed": "s"}))
    written = json.loads((tmp_path / "new" / "overhead.json").read_text())
    assert written["summary"]["model"]["product"]["throughput_64"]["ratio"]["median"] == 0.85
    assert written["rounds"][0]["phases"][loaded(64)]["ttft_s"] == [0.01]
    assert written["rounds"][0]["phases"][loaded(64)]["itl_10us"] == {"0": 40, "200": 58, "900": 2}
    assert {"python", "vllm", "ray", "torch", "cpu", "cores", "commit"} <= set(written["environment"])


def test_each_phase_has_enough_requests_for_what_is_said_of_it() -> None:
    phases = Load().phases()
    assert phases[TTFT].requests >= 100, "a p99"
    assert [phases[loaded(n)].requests for n in Load().streams] == [10, 10, 4, 2]
    assert Load().reference == 64
    assert Load(streams=(128, 256)).reference == 128
