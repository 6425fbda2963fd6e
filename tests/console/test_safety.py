"""What the page must not do: run what it shows, keep what it was told, ask others. And who uses it without a mouse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Error, expect

from tests.console.conftest import Console
from tests.local import DONE, ROLE, RecordingEngine, word

OpenConsole = Callable[..., Console]
CANARY = """<img src=x onerror="window.stung=1"><script>window.stung=1</script>
**<b onclick=stung()>**`</code><svg onload=stung()>`
```
</pre><iframe src="javascript:stung()"></iframe>
```"""
ATTEMPTS = {
    "markup": "document.body.innerHTML = '<p>x'",
    "a script": "const s = document.createElement('script'); document.body.append(s); s.text = 'window.stung = 1'",
    "elsewhere": "await fetch('https://example.org')",
}
UNNAMED = """[...document.querySelectorAll('input,select,textarea,button')]
    .filter((one) => !(one.labels?.length || one.innerText || one.ariaLabel)).length"""
FOCUSED = """() => {
    const one = document.activeElement;
    if (one === document.body || !one.matches(':focus-visible')) return '';
    return (one.labels?.[0]?.innerText || one.innerText || one.ariaLabel || '').trim();
}"""


def test_nothing_that_a_model_says_or_a_name_holds_is_run(console: OpenConsole) -> None:
    here = console(model={"notice": CANARY}, engine=RecordingEngine((ROLE, word(CANARY), DONE)))
    here.sign_in("root")
    page = here.page
    answer = here.ask(CANARY)
    here.answered()
    expect(answer).to_contain_text('<img src=x onerror="window.stung=1">')
    page.get_by_role("button", name="View as code").click()
    page.keyboard.press("Escape")
    here.open("Keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("<b>bold</b><img src=x>")
    page.get_by_role("button", name="Create").click()
    refused = page.get_by_role("alert").or_(page.get_by_role("dialog", name="Your new key"))
    expect(refused).to_be_visible()
    page.keyboard.press("Escape")
    here.open("Deployments")
    expect(page.get_by_role("table")).to_contain_text("<script>")
    assert page.evaluate("window.stung") is None
    assert page.locator("img, script:not([type=module]), b").count() == 0


def test_the_browser_would_stop_it_if_it_tried(console: OpenConsole) -> None:
    here = console()
    for attempt, script in ATTEMPTS.items():
        with pytest.raises(Error, match=r"TrustedHTML|TrustedScript|Failed to fetch"):
            here.page.evaluate(f"(async () => {{ {script} }})()")
        here.page.wait_for_timeout(100)
        assert here.complaints, attempt
        here.complaints.clear()
    assert here.page.evaluate("window.stung") is None


def test_nothing_is_asked_of_anybody_else_and_no_cookie_is_sent(console: OpenConsole) -> None:
    here = console()
    asked: list[str] = []
    here.page.on("request", lambda request: asked.append(f"{request.url} {request.headers.get('cookie', '')}"))
    here.page.reload()
    here.sign_in()
    expect(here.ask("hello")).to_contain_text("hello")
    for name in ("Deployments", "Keys", "Usage"):
        here.open(name)
    assert len(asked) > 10 and all(one.startswith(here.url) and one.endswith(" ") for one in asked)


def test_what_was_typed_is_not_offered_again_nor_sent_to_a_spelling_service(console: OpenConsole) -> None:
    here = console()
    here.sign_in("ward_user")
    for area in here.page.locator("textarea").all():
        assert (area.get_attribute("autocomplete"), area.get_attribute("spellcheck")) == ("off", "false")
    assert here.page.locator("html").get_attribute("translate") == "no"
    here.page.get_by_label("Message").fill("about Jane Doe")
    here.page.goto("about:blank")
    here.page.go_back()
    expect(here.page.get_by_label("API key")).to_have_value("")
    assert "Jane Doe" not in here.page.content()


def test_all_is_reached_by_keyboard_alone(console: OpenConsole) -> None:
    here = console(echo={"inter_token": "30ms"})
    keys, page = here.page.keyboard, here.page

    def tab_to(name: str) -> None:
        for _ in range(40):
            keys.press("Tab")
            if page.evaluate(FOCUSED).startswith(name):
                return
        raise AssertionError(f"no Tab reaches {name}")

    keys.type(here.keys["root"])  # the field has the focus
    keys.press("Enter")
    expect(page.get_by_label("Message")).to_be_focused()
    keys.type("one two three four five six")
    keys.press("Control+Enter")
    here.answered()
    keys.type("word " * 100)
    keys.press("Control+Enter")
    expect(page.get_by_role("status")).to_have_text("Answering …")
    keys.press("Escape")
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    page.reload()
    keys.type(here.keys["root"])
    keys.press("Enter")
    expect(page.get_by_label("Message")).to_be_focused()
    keys.press("Shift+Tab")
    page.evaluate("document.activeElement.blur()")
    tab_to("Skip to the page")
    tab_to("Keys")
    keys.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    tab_to("New key")
    keys.press("Enter")
    expect(page.get_by_label("Name")).to_be_focused()
    keys.type("by keyboard")
    keys.press("Enter")
    expect(page.get_by_role("dialog", name="Your new key")).to_be_visible()
    keys.press("Escape")
    expect(page.get_by_role("row").filter(has_text="by keyboard")).to_have_count(1)


def test_a_screen_reader_is_told_when_an_answer_is_whole(console: OpenConsole) -> None:
    here = console(echo={"inter_token": "30ms"})
    here.sign_in("ward_user")
    answer = here.ask("one two three four five six seven eight")
    expect(answer.locator("[aria-busy=true]")).to_have_count(1)  # not read word by word
    here.answered()
    expect(answer.locator("[aria-busy=true]")).to_have_count(0)
    assert here.page.get_by_role("log", name="Conversation").count() == 1
    assert here.page.evaluate(UNNAMED) == 0
