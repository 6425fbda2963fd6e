"""Talking to a deployment in the console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.console.conftest import Console
from tests.local import DONE, ROLE, RecordingEngine, word

OpenConsole = Callable[..., Console]
SLOW = {"first_token": "30ms", "inter_token": "40ms"}
BREAKS = [{"when": "BREAK", "action": "die", "after": 2}, {"when": "REFUSE", "action": "refuse"}]


def open_playground(console: OpenConsole, **changes: Any) -> Console:
    here = console(**changes)
    here.sign_in("ward_user")
    return here


def asked(page: Page, act: Callable[[], object]) -> Any:
    """The body of the chat request that this sends."""
    with page.expect_request("**/v1/chat/completions") as caught:
        act()
    return caught.value.post_data_json


def test_an_answer_streams_in_with_its_tokens_and_times(console: OpenConsole) -> None:
    here = open_playground(console, echo=SLOW, model={"notice": "Not for clinical use."})
    answer = here.ask("one two three four five six seven eight nine ten")
    expect(answer).to_contain_text("one two")
    assert "ten" not in answer.inner_text()  # it comes word by word
    here.answered()
    expect(answer).to_contain_text("ten")
    facts = answer.locator(".facts").inner_text()
    assert "10 in" in facts and "10 out" in facts and "req_" in facts
    first, rate = facts.split("first token ")[1].split(" ms")[0], facts.split(" tokens/s")[0].split("·")[-1].split()[-1]
    assert 20 < int(first) < 2000 and 2 < float(rate) < 30, facts
    expect(here.page.get_by_role("note")).to_have_text("Not for clinical use.")


def test_an_answer_is_stopped_and_the_server_knows(console: OpenConsole) -> None:
    here = open_playground(console, echo=SLOW)
    answer = here.ask("word " * 200)
    expect(answer).to_contain_text("word word")
    here.page.get_by_role("button", name="Stop").click()
    expect(here.page.get_by_role("status")).to_have_text("Stopped.")
    expect(answer).to_contain_text("stopped by you")
    expect(here.page.get_by_role("button", name="Send")).to_be_enabled()
    line = here.logged("/v1/chat/completions")
    assert line["outcome"] == "client_left" and 0 < line["completion_tokens"] < 100


def test_settings_and_the_conversation_so_far_are_sent(console: OpenConsole) -> None:
    here = open_playground(console)
    page = here.page
    expect(here.ask("first words")).to_contain_text("first words")
    here.answered()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.2")
    page.get_by_label("Longest answer").fill("7")
    page.get_by_label("Stop at").fill("END\nSTOP NOW")
    body = asked(page, lambda: here.ask("second words"))
    assert body == {
        "model": "echo", "temperature": 0.2, "max_tokens": 7, "stop": ["END", "STOP NOW"],
        "stream": True, "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "first words"},
            {"role": "assistant", "content": "first words"}, {"role": "user", "content": "second words"},
        ],
    }  # fmt: skip


def test_an_answer_that_is_cut_says_so(console: OpenConsole) -> None:
    here = open_playground(console)
    here.page.get_by_label("Longest answer").fill("2")
    expect(here.ask("one two three four")).to_contain_text("the limit of tokens was reached")


def test_a_setting_that_is_none_is_not_sent(console: OpenConsole) -> None:
    here = open_playground(console)
    here.page.get_by_label("Temperature").fill("9")
    here.ask_nothing("hello")
    expect(here.page.get_by_label("Message")).to_have_value("hello")


def test_a_failure_is_told_in_words_and_can_be_tried_again(console: OpenConsole) -> None:
    here = open_playground(console, echo={"failures": BREAKS})
    answer = here.ask("one two three BREAK")
    expect(answer.get_by_role("alert")).to_contain_text("stopped before the answer was complete")
    expect(answer.get_by_role("alert")).to_contain_text("req_")
    expect(answer).to_contain_text("one two")
    again = asked(here.page, lambda: answer.get_by_role("button", name="Try again").click())
    assert again["messages"] == [{"role": "user", "content": "one two three BREAK"}]
    refused = here.ask("REFUSE")
    expect(refused.get_by_role("alert")).to_contain_text("try again in")
    later = asked(here.page, lambda: here.ask("all is well"))
    assert [message["content"] for message in later["messages"]] == ["all is well"]


def test_what_filters_find_is_shown_and_a_blocked_prompt_does_not_stay_in_the_conversation(
    console: OpenConsole,
) -> None:
    guards = [
        {"kind": "pii", "name": "ids"},
        {"kind": "blocklist", "name": "drugs", "terms": ["fentanyl patch"]},
    ]
    deployment = {"name": "echo", "engine": {"kind": "echo"}, "guards": ["ids", "drugs"]}
    here = open_playground(console, guards=guards, deployments=[deployment])
    answer = here.ask("Write to jane@example.org.")
    expect(answer).to_contain_text("prompt: personally identifiable information found (email)")
    here.answered()
    blocked = here.ask("a fentanyl patch")
    expect(blocked).to_contain_text("prompt: custom blocklists blocked (drugs)")
    expect(blocked.get_by_role("alert")).to_contain_text("content management policy")
    expect(here.page.get_by_role("status")).to_have_text("Not answered.")
    assert "fentanyl" not in str(asked(here.page, lambda: here.ask("now something else")))


def test_formatting_is_shown_and_stays_text_otherwise(console: OpenConsole) -> None:
    text = "## Plan\n- **lisinopril** `10 mg`\n- see [this](https://example.org)\n\n```\nif a < b:\n```"
    here = open_playground(console, engine=RecordingEngine((ROLE, word(text), DONE)))
    answer = here.ask("a plan")
    here.answered()
    expect(answer.locator("strong")).to_have_text("lisinopril")
    expect(answer.get_by_role("listitem")).to_have_count(2)
    expect(answer.locator(".words pre")).to_have_text("if a < b:")
    expect(answer.get_by_role("link")).to_have_count(0)


def test_only_deployments_that_can_chat_and_that_the_key_may_call_are_offered(console: OpenConsole) -> None:
    engine = {"kind": "echo"}
    here = console(deployments=[{"name": "notes", "engine": engine}, {"name": "letters", "engine": engine}])
    with here.office() as office:
        _, secret = office.administration.create_key(
            office.actor, "ward", "narrow", roles=frozenset({"inference"}), deployments=frozenset({"letters"})
        )
    here.keys["narrow"] = secret.reveal()
    here.sign_in("narrow")
    expect(here.page.get_by_label("Deployment").get_by_role("option")).to_have_text(["letters"])
