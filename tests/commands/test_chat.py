"""`clinserve chat`: the real client against an echo server on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner, Result

from serving.cli import cli
from tests.conftest import OpenSite
from tests.local import Site, listening


class Server(NamedTuple):
    url: str
    site: Site


@pytest.fixture
def server(site: OpenSite) -> Iterator[Server]:
    failures = [{"when": "BREAK", "action": "die", "after": 2}]
    open_site = site(echo={"failures": failures}, model={"notice": "Not a model [1]."})
    with listening(open_site.app) as url:
        yield Server(url, open_site)


def run(server: Server, *arguments: str, typed: str = "", key: str | None = None) -> Result:
    options = ["--url", server.url, "--key", key or server.site.key]
    return CliRunner().invoke(cli, ["chat", *arguments, *options], input=typed)


def one_line(result: Result) -> str:
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    return result.stderr


def test_one_message_gets_one_answer_and_shows_which_model_and_its_notice(server: Server) -> None:
    result = run(server, "one two three")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"echo at {server.url}  Not a model [1].", "one two three"]


def test_a_conversation_is_typed_until_an_empty_line(server: Server) -> None:
    result = run(server, typed="first words\nsecond words\n\nnever\n")
    assert result.exit_code == 0
    assert "first words" in result.stdout and "second words" in result.stdout and "never" not in result.stdout


def test_a_conversation_may_end_with_the_input(server: Server) -> None:
    assert run(server, typed="only words").exit_code == 0


def test_the_first_message_is_about_the_note(server: Server, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("A note.\n")
    assert run(server, "A question?", "--note", str(note), "--system", "Be brief.").stdout.endswith(
        "A note. A question?\n"
    )


def test_a_wrong_key_is_one_line(server: Server) -> None:
    assert "401 - Access denied" in one_line(run(server, "hello", key="wrong"))


def test_an_unknown_deployment_is_one_line_with_those_that_are_there(server: Server) -> None:
    assert "there is no deployment 'big'; there are echo" in one_line(run(server, "hello", "--model", "big"))


def test_an_answer_that_breaks_off_is_one_line_after_what_came(server: Server) -> None:
    result = run(server, "one two BREAK")
    assert "stopped before the answer was complete" in one_line(result)
    assert result.stdout.splitlines()[-1] == "one two"


def test_a_note_that_cannot_be_read_is_one_line(server: Server) -> None:
    assert "/nowhere: No such file" in one_line(run(server, "hello", "--note", "/nowhere"))


def test_no_server_is_one_line_that_says_how_to_start_one(server: Server) -> None:
    nobody = server._replace(url="http://127.0.0.1:9")
    assert "no server answers at http://127.0.0.1:9; start one" in one_line(run(nobody, "hello"))


def test_without_a_key_the_demo_key_is_used_and_without_one_that_is_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINSERVE_SERVER__STATE_DIR", str(tmp_path))
    monkeypatch.delenv("CLINSERVE_API_KEY", raising=False)
    arguments = ["chat", "hello", "--url", server.url]
    assert "no key: pass --key" in one_line(CliRunner().invoke(cli, arguments))
    (tmp_path / "demo.key").write_text(server.site.key + "\n")
    assert CliRunner().invoke(cli, arguments).stdout.endswith("hello\n")
