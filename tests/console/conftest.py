"""The console in a real browser: each test on a gateway of its own, a browser for each file.

What the page may never do fails every test: break its own policy, throw, or leave something in the browser.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from serving.app import open_office
from serving.commands.office import Office
from tests.conftest import OpenSite, settings_of
from tests.gateway.administrators import enrol
from tests.local import Site, Tree, listening

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
STORED = """async () => ({
    local: Object.keys(localStorage), session: Object.keys(sessionStorage), cookies: document.cookie,
    databases: await indexedDB.databases(), caches: self.caches ? await caches.keys() : [],
    workers: navigator.serviceWorker ? (await navigator.serviceWorker.getRegistrations()).length : 0,
})"""
WATCH = """
addEventListener('securitypolicyviolation', (event) => console.error('violation of ' + event.violatedDirective));
"""
expect.set_options(timeout=20_000)  # for a busy machine; it takes milliseconds
NOTHING = {"local": [], "session": [], "cookies": "", "databases": [], "caches": [], "workers": 0}


def chromium() -> str:
    """Where it is. Missing: a skip that says so, in CI a failure."""
    if found := shutil.which("chromium"):
        return found
    problem = "chromium is not installed (Debian: chromium), so the console is not tested in a browser here"
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # For one file: while Playwright's synchronous half runs, asynchronous tests cannot.
    executable = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Console:
    """A page at /console, and what a test does there."""

    page: Page
    site: Site
    keys: dict[str, str]
    url: str
    complaints: list[str] = field(default_factory=list)
    """What the browser did not like: errors, and violations of the page's policy."""

    def sign_in(self, caller: str = "root") -> None:
        self.page.get_by_label("API key").fill(self.keys[caller])
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("banner").wait_for()

    def open(self, name: str) -> None:
        self.page.get_by_role("link", name=name).click()
        self.page.get_by_role("heading", name=name, level=1).wait_for()

    def ask(self, text: str) -> Locator:
        """Send a message; the answer that begins."""
        self.page.get_by_label("Message").fill(text)
        self.page.get_by_role("button", name="Send").click()
        return self.page.get_by_role("article").last

    def answered(self) -> None:
        """Wait for the answer's end; fail with what the page says when it is none."""
        state = self.page.get_by_role("status")
        expect(state).not_to_have_text("Answering …")
        assert state.inner_text() == "Answered.", self.page.get_by_role("article").last.inner_text()

    def ask_nothing(self, text: str) -> None:
        """Try to send a message that the page holds back."""
        asked: list[object] = []
        self.page.on("request", lambda request: asked.append(request))
        self.page.get_by_label("Message").fill(text)
        self.page.get_by_role("button", name="Send").click()
        self.page.wait_for_timeout(100)
        assert asked == []

    def logged(self, route: str) -> Tree:
        """The log's line of the one request to it, once there is one."""
        end = time.monotonic() + 10
        while not (found := [line for line in self.site.log() if line["route"] == route]):
            assert time.monotonic() < end
            self.page.wait_for_timeout(20)
        (line,) = found
        return line

    def office(self) -> Office:
        return open_office(self.site.settings)

    def stored(self) -> object:
        return self.page.evaluate(STORED)


@pytest.fixture(scope="session")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A state directory with CALLERS' keys in it, and these."""
    state = tmp_path_factory.mktemp("everybody")
    with open_office(settings_of(state)) as office:
        office.administration.ensure_tenant("ward")
    return state, enrol(settings_of(state))


@pytest.fixture(scope="session")
def installed(everybody: tuple[Path, dict[str, str]]) -> tuple[Path, str]:
    """What `site` begins with here."""
    state, keys = everybody
    return state, keys["root"]


@pytest.fixture
def console(
    browser: Browser, site: OpenSite, everybody: tuple[Path, dict[str, str]]
) -> Iterator[Callable[..., Console]]:
    """console(): a page on a gateway with CALLERS' keys; console(echo=..., ...) configures it."""
    opened: list[tuple[Console, list[Callable[[], object]]]] = []

    def open_console(**changes: object) -> Console:
        place = site(**changes)
        server = listening(place.app)
        url = server.__enter__()
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(20_000)
        page = context.new_page()
        console = Console(page, place, dict(everybody[1]), url)
        opened.append((console, [context.close, lambda: server.__exit__(None, None, None)]))
        page.on("pageerror", lambda error: console.complaints.append(str(error)))
        page.on("console", lambda said: console.complaints.append(said.text) if _is_violation(said.text) else None)
        page.add_init_script(WATCH)
        page.goto(f"{url}/console")
        return console

    yield open_console
    for console, endings in opened:
        stored = console.stored() if console.page.url != "about:blank" else NOTHING
        for end in endings:
            end()
        assert console.complaints == []
        assert stored == NOTHING


def _is_violation(text: str) -> bool:
    return "violat" in text or "Content Security Policy" in text or "TrustedHTML" in text
