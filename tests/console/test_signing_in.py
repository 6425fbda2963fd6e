"""Who gets in, what they are shown, and when they are out again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect
from starlette.types import Receive, Scope, Send

from tests.console.conftest import Console
from tests.local import listening

OpenConsole = Callable[..., Console]


def test_a_key_opens_the_console_and_shows_whose_it_is(console: OpenConsole) -> None:
    here = console()
    here.sign_in("ward_user")
    banner = here.page.get_by_role("banner")
    expect(banner).to_contain_text("ward_user")
    expect(banner).to_contain_text("inference")


def test_a_wrong_key_is_told_in_words_with_the_requests_id(console: OpenConsole) -> None:
    here = console()
    here.page.get_by_label("API key").fill("csk_wrong")
    here.page.keyboard.press("Enter")
    alert = here.page.get_by_role("alert")
    expect(alert).to_contain_text("Access denied")
    expect(alert).to_contain_text("req_")
    expect(here.page.get_by_label("API key")).to_be_focused()


def test_what_cannot_be_a_key_is_not_sent(console: OpenConsole) -> None:
    here = console()
    here.page.get_by_label("API key").fill("zwölf €")
    here.page.get_by_role("button", name="Sign in").click()
    expect(here.page.get_by_role("alert")).to_contain_text("plain letters")
    assert [line for line in here.site.log() if line["route"] == "/admin/v1/me"] == []


@pytest.mark.parametrize(
    ("caller", "pages"),
    [
        ("root", ["Playground", "Deployments", "Keys", "Usage"]),
        ("ward_admin", ["Deployments", "Keys", "Usage"]),
        ("ward_auditor", ["Deployments", "Usage"]),
        ("ward_user", ["Playground", "Deployments", "Usage"]),
    ],
)
def test_a_page_that_the_roles_do_not_open_is_not_shown(console: OpenConsole, caller: str, pages: list[str]) -> None:
    here = console()
    here.sign_in(caller)
    links = here.page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert links.all_inner_texts() == pages
    if "Keys" not in pages:  # nor by its address
        here.page.evaluate("location.hash = 'keys'")
        expect(here.page.get_by_role("heading", level=1)).to_have_text(pages[0])


def test_a_reload_forgets_the_key(console: OpenConsole) -> None:
    here = console()
    here.sign_in()
    here.page.reload()
    expect(here.page.get_by_label("API key")).to_have_value("")


def test_who_signs_out_leaves_nothing_on_the_page(console: OpenConsole) -> None:
    here = console()
    here.sign_in("ward_user")
    expect(here.ask("about Jane Doe")).to_contain_text("Jane Doe")
    here.page.get_by_role("button", name="Sign out").click()
    expect(here.page.get_by_label("API key")).to_be_focused()
    html = here.page.content()
    assert "Jane Doe" not in html and here.keys["ward_user"] not in html


def test_who_walks_away_is_signed_out(console: OpenConsole) -> None:
    here = console()
    here.page.clock.install()
    here.sign_in("ward_user")
    here.page.clock.run_for("14:00")
    here.page.keyboard.press("Tab")
    here.page.clock.run_for("14:00")
    expect(here.page.get_by_role("banner")).to_be_visible()
    here.page.clock.run_for("01:01")
    expect(here.page.get_by_text("Signed out after 15 minutes")).to_be_visible()


def test_a_key_that_ends_meanwhile_signs_out_and_says_why(console: OpenConsole) -> None:
    here = console(keys={"cache": 0})
    here.sign_in("ward_user")
    with here.office() as office:
        office.administration.revoke_key(office.actor, here.keys["ward_user"][:12])
    here.page.get_by_role("link", name="Usage").click()
    expect(here.page.get_by_text("no longer valid")).to_be_visible()


def test_a_server_that_is_away_is_told_in_words(console: OpenConsole) -> None:
    here = console()
    here.page.clock.install()
    here.sign_in()
    here.page.context.set_offline(True)
    here.page.get_by_role("link", name="Deployments").click()
    expect(here.page.get_by_role("alert")).to_contain_text("does not answer")
    here.page.context.set_offline(False)
    here.page.clock.run_for(5000)
    expect(here.page.get_by_text("Ready")).to_be_visible()  # by itself


def test_it_works_below_a_path_of_somebodys_proxy(console: OpenConsole) -> None:
    here = console()

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith("/models/here/")
            scope = {**scope, "path": scope["path"].removeprefix("/models/here")}
        await here.site.app(scope, receive, send)

    with listening(proxy) as url:
        here.page.goto(f"{url}/models/here/console/")
        assert here.page.url == f"{url}/models/here/console"
        here.sign_in("ward_user")
        expect(here.ask("hello")).to_contain_text("hello")
        here.page.goto("about:blank")
