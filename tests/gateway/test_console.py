"""/console as HTTP: what is served, with which headers, and that off is off. In a browser: tests/console."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serving.gateway.console import routes
from tests.conftest import OpenSite
from tests.local import error_of

FILES = sorted((Path(routes.__file__).parent / "static").iterdir())
SCRIPTS = [file for file in FILES if file.suffix == ".js"]
WORST = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage", "sessionStorage",
         "indexedDB", "document.cookie", "http://", "https://"]  # fmt: skip


async def test_the_page_may_load_from_here_only_and_is_never_kept(site: OpenSite) -> None:
    answer = await site().client(accept="text/html").get("/console")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'",
        "img-src": "'self' data:", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'", "trusted-types": "'none'",
    }  # fmt: skip
    expected = {
        "cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin", "x-frame-options": "DENY",
    }  # fmt: skip
    assert {name: answer.headers[name] for name in expected} == expected
    assert "set-cookie" not in answer.headers


async def test_everything_the_page_loads_is_there_and_may_be_kept(site: OpenSite) -> None:
    client = site().client(accept="*/*")
    page = (await client.get("/console")).text
    folder = re.search(r'src="(console/[0-9a-f]{16})/app.js"', page)
    assert folder is not None
    for file in FILES:
        if file.name == "index.html":
            continue
        answer = await client.get(f"/{folder[1]}/{file.name}")
        assert answer.status_code == 200 and answer.content == file.read_bytes()
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    scripts = "".join(file.read_text() for file in SCRIPTS)
    assert set(re.findall(r'from "\./([a-z]+\.js)"', scripts)) == {file.name for file in SCRIPTS} - {"app.js"}


@pytest.mark.parametrize("path", ["/console/0123456789abcdef/app.js", "/console/x/..%2froutes.py", "/console/app.js"])
async def test_of_another_version_or_elsewhere_there_is_nothing(site: OpenSite, path: str) -> None:
    error_of(await site().client().get(path), 404, "not_found")


async def test_off_there_is_no_console(site: OpenSite) -> None:
    client = site(console={"enabled": False}).client()
    for path in ("/console", "/console/", "/console/x/app.js"):
        error_of(await client.get(path), 404, "not_found")


async def test_a_slash_too_many_leads_to_the_page(site: OpenSite) -> None:
    answer = await site().client().get("/console/")
    assert (answer.status_code, answer.headers["location"]) == (307, "../console")


async def test_the_page_is_in_the_log_and_its_files_are_not(site: OpenSite) -> None:
    here = site()
    page = (await here.client().get("/console")).text
    await here.client().get("/" + page.partition('href="')[2].partition('"')[0])
    assert [line["route"] for line in here.log()] == ["/console"]


def test_it_is_small() -> None:
    assert sum(len(file.read_bytes()) for file in FILES) < 100_000


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_no_script_writes_markup_keeps_anything_or_names_another_address(file: Path) -> None:
    text = file.read_text().replace("http://www.w3.org/2000/svg", "")
    assert [word for word in WORST if word in text] == []


TEXTS = [
    "text/bg",
    "text/surface",
    "text/accent-soft",
    "dim/bg",
    "dim/surface",
    "dim/sunken",
    "accent/surface",
    "accent-text/accent",
    "good/good-soft",
    "bad/bad-soft",
    "bad/surface",
    "warn/warn-soft",
    "warn/surface",
]


@pytest.mark.parametrize("at", [0, 1], ids=["light", "dark"])
def test_texts_and_bars_stand_out_from_what_is_behind_them(at: int) -> None:
    style = next(file for file in FILES if file.suffix == ".css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", re.findall(r":root \{(.*?)\}", style, re.DOTALL)[at]))
    texts = {pair: contrast(*(colours[name] for name in pair.split("/"))) for pair in TEXTS}
    assert {pair: ratio for pair, ratio in texts.items() if ratio < 4.5} == {}  # WCAG 2.2, 1.4.3
    assert all(contrast(colours[f"c{n}"], colours["surface"]) >= 3 for n in range(7))  # 1.4.11


def contrast(one: str, other: str) -> float:
    """As https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio has it."""
    dark, light = sorted(luminance(colour) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
