"""`clinserve top`: figures from readings made by hand, the screen from a live server, keys in a real terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from serving.cli import cli
from serving.commands.figures import Row, rows
from serving.commands.running import Reading, Remote, TenantUse
from serving.commands.screen import View, screen
from serving.commands.top import Watch
from serving.telemetry.scrape import Scrape
from tests.conftest import OpenSite
from tests.gateway.administrators import hospital
from tests.local import chat, listening

ONE = {"running": 1, "starting": 0, "stopping": 0}
TWO_AND_ONE = {"running": 2, "starting": 1, "stopping": 0}
VLLM = """
vllm:generation_tokens_total{{model_name="gemma",engine="0"}} {tokens}
vllm:num_requests_waiting{{model_name="gemma",engine="0"}} 3
vllm:kv_cache_usage_perc{{model_name="gemma",engine="0"}} 0.416
clinserve_requests_in_flight{{deployment="gemma"}} 34
clinserve_requests_total{{deployment="gemma",operation="chat",outcome="ok"}} {ok}
clinserve_requests_total{{deployment="gemma",operation="chat",outcome="rate_limit_exceeded"}} {refused}
clinserve_requests_total{{deployment="gemma",operation="chat",outcome="engine_failed"}} {failed}
clinserve_requests_total{{deployment="gemma",operation="chat",outcome="client_left"}} {failed}
clinserve_tokens_total{{deployment="gemma",type="completion"}} 1
clinserve_tokens_total{{deployment="echo",type="completion"}} {tokens}
gen_ai_server_time_to_first_token_seconds_bucket{{deployment="gemma",operation="chat",le="0.1"}} {ok}
gen_ai_server_time_to_first_token_seconds_bucket{{deployment="gemma",operation="chat",le="+Inf"}} {ok}
"""


def reading(at: float, *, replicas: Any = ONE, problem: str | None = None, **counts: int) -> Reading:
    deployments = [{"name": "gemma", "ready": True, "replicas": replicas}, {"name": "echo", "ready": False}]
    status = {"version": "1.2", "started_at": "2026-11-25T10:00:00Z", "deployments": deployments}
    return Reading(at=at, problem=problem, status=status, metrics=Scrape.of(VLLM.format(**counts)))


def shown(found: Sequence[Row], **facts: Any) -> list[str]:
    """The lines of the screen, 80 columns wide."""
    view = View(url="http://127.0.0.1:8000", reading=facts.pop("reading"), rows=found, now=NOW, **facts)
    out = io.StringIO()
    Console(file=out, width=80).print(screen(view))
    return out.getvalue().splitlines()


NOW = datetime(2026, 11, 25, 12, 13, 5, tzinfo=UTC)
BEFORE = reading(100.0, tokens=1000, ok=50, refused=0, failed=2)
AFTER = reading(110.0, tokens=1500, ok=70, refused=5, failed=3, replicas=TWO_AND_ONE)


def test_rates_are_those_between_two_readings_and_vllm_says_what_only_it_knows() -> None:
    gemma, echo = rows(AFTER, BEFORE)
    assert (gemma.requests, gemma.tokens, gemma.refused, gemma.failed) == (2.7, 50.0, 30.0, 6.0)
    assert (gemma.queue, gemma.kv, gemma.in_flight, gemma.replicas) == (3, 0.416, 34, "2+1")
    assert gemma.ttft == pytest.approx((0.05, 0.095))
    assert (echo.state, echo.tokens, echo.queue, echo.kv, echo.ttft) == ("away", 50.0, None, None, None)


def test_a_server_that_was_started_again_does_not_count_backwards() -> None:
    anew = reading(120.0, tokens=30, ok=1, refused=0, failed=0)
    gemma, _ = rows(anew, AFTER)
    assert gemma.tokens == 3.0 and gemma.requests == 0.1


def test_the_first_reading_alone_has_no_rates() -> None:
    gemma, _ = rows(AFTER, AFTER)
    assert (gemma.requests, gemma.tokens, gemma.in_flight) == (0, 0, 34)


def test_the_screen_fits_eighty_columns() -> None:
    lines = shown(rows(AFTER, BEFORE), reading=AFTER, tenants=[TenantUse("ward", 1200, 90_000)])
    assert max(map(len, lines)) <= 80
    assert lines[0].rstrip() == "clinserve 1.2  http://127.0.0.1:8000  ready  up 2h 13m"
    assert lines[1].split("  ")[:3] == ["requests/s 2.7", "tokens/s 100", "in flight 34"]
    columns, gemma, echo = (line.split() for line in lines[3:6])
    assert columns == ["deployment", "state", "repl", "busy", "queue", "kv", "tok/s", "ttft50", "ttft95", "429/m"]
    assert gemma == ["gemma", "ready", "2+1", "34", "3", "42%", "50", "50ms", "95ms", "30"]
    assert echo == ["echo", "away", "-", "0", "-", "-", "50", "-", "-", "0"]
    assert lines[8].split() == ["ward", "1,200", "90,000"]


def test_long_names_large_numbers_and_many_tenants_fit_too() -> None:
    big = Row(
        "a-deployment-with-a-very-long-name-indeed",
        "ready",
        "12+3",
        99999,
        9999,
        1.0,
        1e4,
        123456,
        (9.9, 99.9),
        9999,
        0,
    )
    uses = [TenantUse(f"tenant-{n}" * 8, 10**6, 10**9) for n in range(12)]
    lines = shown([big], reading=AFTER, tenants=uses)
    assert max(map(len, lines)) <= 80 and lines[4].endswith("9999")
    assert any(line.startswith("4 others") for line in lines)


def test_what_is_not_ready_or_away_is_told() -> None:
    waiting = reading(110.0, tokens=0, ok=0, refused=0, failed=0, problem="Not ready yet: echo.")
    assert [line.rstrip() for line in shown([], reading=waiting, tenants=None)[:2]] == [
        "clinserve 1.2  http://127.0.0.1:8000  not ready  up 2h 13m",
        "Not ready yet: echo.",
    ]
    lines = shown([], reading=AFTER, tenants=None, trouble="no answer for 5 s; trying again")
    assert "ready" not in lines[0] and lines[1].rstrip() == "no answer for 5 s; trying again"


def test_a_live_server_is_watched_through_a_restart(site: OpenSite) -> None:
    place = hospital(site)

    def ask(url: str) -> None:
        httpx.post(f"{url}/v1/chat/completions", headers={"api-key": place.keys["root"]}, json=chat(stream=True))

    with listening(place.site.app) as url, Remote(url, place.keys["root"]) as remote:
        watch = Watch(remote)
        assert watch.look().rows[0].requests == 0
        ask(url)
        (row,) = watch.look().rows
        assert row.requests > 0 and row.tokens > 0 and row.ttft is not None
        remote._http.base_url = httpx.URL("http://127.0.0.1:9")
        gone = watch.look()
        assert gone.trouble and "no answer for" in gone.trouble and gone.rows[0].name == "echo"
        remote._http.base_url = httpx.URL(url)
        assert watch.look().trouble is None


@pytest.mark.parametrize(("caller", "sees_tenants"), [("auditor", True), ("ward_auditor", True), ("ward_user", False)])
def test_tenants_are_shown_to_those_who_may_know(site: OpenSite, caller: str, sees_tenants: bool) -> None:
    place = hospital(site)
    with listening(place.site.app) as url, Remote(url, place.keys[caller]) as remote:
        assert (Watch(remote).look().tenants is not None) == sees_tenants


def test_piped_it_prints_so_many_screens(site: OpenSite) -> None:
    open_site = site()
    with listening(open_site.app) as url:
        words = ["top", "--url", url, "--key", open_site.key, "--every", "0.1", "--frames", "2"]
        result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0 and result.stdout.count("deployment ") == 2 and "\x1b" not in result.stdout


def test_an_address_or_a_key_that_is_wrong_is_one_line() -> None:
    result = CliRunner().invoke(cli, ["top", "--url", "http://127.0.0.1:9", "--key", "x"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_in_a_terminal_q_or_ctrl_c_ends_it_and_the_terminal_is_as_before(site: OpenSite, key: bytes) -> None:
    open_site = site()
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 80))
    before = termios.tcgetattr(follower)
    with listening(open_site.app) as url:
        words = ["top", "--url", url, "--key", open_site.key, "--every", "0.2"]
        child = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", *words],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=take_terminal,
            env=os.environ | {"TERM": "xterm"},
        )
        try:
            seen = read_until(leader, "q quits")
            assert "\x1b[?1049h" in seen and "tok/s" in seen  # a screen of its own
            os.write(leader, key)
            read_until(leader, "\x1b[?1049l")
            assert child.wait(timeout=10) == 0
        finally:
            child.kill()
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)


def take_terminal() -> None:
    """As a shell starts a program: the terminal's Ctrl-C is for it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def read_until(terminal: int, text: str, seconds: float = 30) -> str:
    seen, end = "", time.monotonic() + seconds
    while text not in seen:
        assert select.select([terminal], [], [], max(0, end - time.monotonic()))[0], seen
        seen += os.read(terminal, 4096).decode(errors="replace")
    return seen
