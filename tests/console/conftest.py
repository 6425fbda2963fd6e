"""The console in a real browser: each test on a gateway of its own, a browser for each file.

What the page may never do fails every test: break its own policy, throw, or leave something in the browser.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.conftest import OpenSite
from tests.gateway.administrators import CALLERS, hospital
from tests.local import Site, listening

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
STORED = """async () => ({
    local: Object.keys(localStorage), session: Object.keys(sessionStorage), cookies: document.cookie,
    databases: await indexedDB.databases(), caches: self.caches ? await caches.keys() : [],
    workers: navigator.serviceWorker ? (await navigator.serviceWorker.getRegistrations()).length : 0,
})"""
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

    def stored(self) -> object:
        return self.page.evaluate(STORED)


@pytest.fixture
def console(browser: Browser, site: OpenSite) -> Iterator[Callable[..., Console]]:
    """console(): a page on a gateway with CALLERS' keys; console(echo=..., ...) configures it."""
    opened: list[tuple[Console, list[Callable[[], object]]]] = []

    def open_console(**changes: object) -> Console:
        place = hospital(lambda **_: site(**changes))
        server = listening(place.site.app)
        url = server.__enter__()
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(10_000)
        page = context.new_page()
        console = Console(page, place.site, place.keys, url)
        opened.append((console, [context.close, lambda: server.__exit__(None, None, None)]))
        page.on("pageerror", lambda error: console.complaints.append(str(error)))
        page.on("console", lambda said: console.complaints.append(said.text) if _is_violation(said.text) else None)
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error('violation of ' + event.violatedDirective))"
        )
        page.goto(f"{url}/console")
        return console

    yield open_console
    for console, endings in opened:
        stored = console.stored()
        for end in endings:
            end()
        assert console.complaints == []
        assert stored == NOTHING


def _is_violation(text: str) -> bool:
    return "violat" in text or "Content Security Policy" in text or "TrustedHTML" in text


__all__ = ["CALLERS", "Path"]
