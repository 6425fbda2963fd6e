"""The README's few lines for each SDK do what they say, on the real product."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.product import ROOT, Product

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SECTION = (ROOT / "README.md").read_text().partition("\n## Each SDK in a few lines\n")[2].partition("\n## ")[0]
SNIPPETS = re.findall(r"^\*\*([^*]+)\*\*.*?^```(python|js|sh)\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
"""Name, language, code."""


def test_there_is_one_for_each_sdk() -> None:
    names = ["OpenAI", "Azure OpenAI", "Azure AI Inference", "LangChain", "JavaScript", "curl"]
    assert [name for name, _, _ in SNIPPETS] == names


@pytest.mark.parametrize(("language", "code"), [snippet[1:] for snippet in SNIPPETS], ids=[s[0] for s in SNIPPETS])
def test_a_snippet_works_as_it_is(product: Product, language: str, code: str) -> None:
    commands = {
        "python": [sys.executable, "-c"],
        "js": [sys.executable, "node.py", "--input-type=module", "-e"],
        "sh": ["bash", "-ec"],
    }
    folder: Path = ROOT / "tests" / "node" if language == "js" else product.state_dir
    done = subprocess.run(
        [*commands[language], code.replace("http://127.0.0.1:8000", product.url)],
        cwd=folder,
        env=os.environ | {"KEY": product.key},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and '"error"' not in done.stdout, done.stdout
