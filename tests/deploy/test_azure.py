"""The Bicep files: their syntax, and that modules, parameters and the product fit together. Nothing here asks Azure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serving import settings as config
from serving.secrets import Secrets
from serving.weights.source import BlobSource
from serving.weights.source import parse as source
from tests.deploy import bicep
from tests.helm.chart import rendered

FOLDER = Path(__file__).parents[2] / "deploy/azure"
MAIN = bicep.read(FOLDER / "main.bicep")
MODULES = {f"modules/{path.name}": bicep.read(path) for path in sorted((FOLDER / "modules").glob("*.bicep"))}
FILES = [MAIN, *MODULES.values()]
PARAMETERS = [bicep.read(path) for path in sorted(FOLDER.glob("*.bicepparam"))]
PREVIEWS = {"Microsoft.Insights/diagnosticSettings"}
"""Of these Azure has had nothing but previews for years."""


@pytest.mark.parametrize("file", [*FILES, *PARAMETERS], ids=lambda file: file.path.name)
def test_a_file_is_bicep(file: bicep.File) -> None:
    assert file.faults == []


def test_the_reader_sees_what_is_no_bicep(tmp_path: Path) -> None:
    broken = tmp_path / "broken.bicep"
    broken.write_text("param name string\nresource x 'A/b@2024-01-01' = {\n  name: \n")
    assert bicep.read(broken).faults


def test_every_module_is_called_and_every_call_finds_its_module() -> None:
    assert {call.module for call in MAIN.calls.values()} == MODULES.keys()


@pytest.mark.parametrize("symbol", MAIN.calls)
def test_a_call_passes_what_the_module_declares_and_nothing_else(symbol: str) -> None:
    call = MAIN.calls[symbol]
    declared = MODULES[call.module].parameters
    assert call.arguments.keys() <= declared.keys()
    assert declared.keys() - call.arguments.keys() <= {name for name, one in declared.items() if one.optional}


@pytest.mark.parametrize("symbol", MAIN.calls)
def test_what_a_call_passes_is_of_the_kind_that_the_module_takes(symbol: str) -> None:
    call = MAIN.calls[symbol]
    for name, argument in call.arguments.items():
        if bicep.text_of(argument).split(".")[0] in call.loop_variables:
            continue
        assert bicep.kind(MAIN, argument, MODULES) in (MODULES[call.module].parameters[name].type, None), name


def test_every_output_that_is_used_exists() -> None:
    used = set(re.findall(r"(\w+)\.outputs\.(\w+)", bicep.text_of(MAIN.root)))
    assert len(used) > 20
    for symbol, output in used:
        assert output in MODULES[MAIN.calls[symbol].module].outputs, f"{symbol}.outputs.{output}"


def test_no_module_declares_what_nobody_uses() -> None:
    for file in FILES:
        text = re.sub(r"^(param|var) .*$", "", bicep.text_of(file.root), flags=re.MULTILINE)
        text += " ".join(bicep.text_of(value) for value in file.variables.values())
        for name in [*file.parameters, *file.variables]:
            assert re.search(rf"\b{name}\b", text), f"{file.path.name}: {name}"


def test_a_secret_stays_one_all_the_way() -> None:
    secret = {name for name, one in MAIN.parameters.items() if one.secure}
    assert secret == {"postgresPassword"}
    for call in MAIN.calls.values():
        for name, argument in call.arguments.items():
            if bicep.text_of(argument) in secret:
                assert MODULES[call.module].parameters[name].secure
    for file in FILES:
        for _, value in file.outputs.values():
            assert not re.search(r"listKeys|[pP]assword", bicep.text_of(value)), file.path.name


def test_what_has_a_private_endpoint_has_no_public_door_and_no_shared_key() -> None:
    targets = re.findall(r"(\w+)\.outputs\.id\b", bicep.text_of(MAIN.variables["targets"]))
    assert len(targets) == len(bicep.text_of(MAIN.variables["reached"]).splitlines()) - 2
    for target in targets:
        assert "publicNetworkAccess: 'Disabled'" in bicep.text_of(MODULES[f"modules/{target}.bicep"].root), target
    text = "".join(bicep.text_of(file.root) for file in FILES)
    for said in ("allowSharedKeyAccess: false", "adminUserEnabled: false", "disableLocalAccounts: true"):
        assert said in text


def test_api_versions_are_pinned_released_and_one_for_each_type() -> None:
    versions: dict[str, set[str]] = {}
    for file in FILES:
        for resource in file.resources.values():
            kind, version = resource.split("@")
            versions.setdefault(kind, set()).add(version)
    assert all(len(found) == 1 for found in versions.values()), versions
    released = re.compile(r"\d{4}-\d\d-\d\d")
    assert {kind for kind, (version,) in versions.items() if not released.fullmatch(version)} == PREVIEWS


@pytest.mark.parametrize("file", PARAMETERS, ids=lambda file: file.path.name)
def test_an_environment_sets_what_must_be_set_and_nothing_unknown(file: bicep.File) -> None:
    declared = MAIN.parameters
    assert {name for name, one in declared.items() if not one.optional} <= file.variables.keys() <= declared.keys()
    for name, value in file.variables.items():
        assert bicep.kind(file, value, {}) == declared[name].type, name
        assert not declared[name].allowed or bicep.literal(value) in declared[name].allowed, name
    pools = file.variables["gpuPools"].named_children
    assert pools and all(
        bicep.properties(pool).keys() == {"name", "vmSize", "minimum", "maximum", "migProfile"} for pool in pools
    )


@pytest.mark.parametrize("file", PARAMETERS, ids=lambda file: file.path.name)
def test_no_environment_holds_a_secret(file: bicep.File) -> None:
    text = bicep.text_of(file.variables["postgresPassword"])
    assert re.fullmatch(r"readEnvironmentVariable\('CLINSERVE_DATABASE_PASSWORD'\)", text)


class Vault:
    """One that has everything, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def get(self, name: str) -> str:
        self.asked.add(name)
        return "0" * 64

    def place_of(self, name: str) -> str:
        return name


def names_in_the_vault() -> set[str]:
    """What the product asks a vault for, with the prefix that it has by default."""
    vault = Vault()
    Secrets.load(Path(), {}, vault)
    return {f"{config.Settings.model_fields['secrets'].default.prefix}{name}" for name in vault.asked}


def test_the_vault_has_every_secret_that_the_product_asks_for() -> None:
    passwords = set(re.findall(r"name: '(clinserve-[a-z-]+)'", "".join(bicep.text_of(file.root) for file in FILES)))
    by_hand = set(re.findall(r"clinserve-[a-z-]+", (FOLDER / "README.md").read_text()))
    assert passwords == {"clinserve-database-password", "clinserve-redis-password"}
    chart = rendered("aks").of("SecretProviderClass")
    asked = {name for one in chart for name in re.findall(r"objectName: (\S+)", one["spec"]["parameters"]["objects"])}
    assert passwords | by_hand == names_in_the_vault() | asked


def test_what_comes_out_is_what_the_configuration_takes() -> None:
    settings = config.parse(
        {
            "database": {"url": output("postgres", "url")},
            "quotas": {"redis": output("redis", "url")},
            "batches": {"blob": output("storage", "batchesUrl")},
            "secrets": {"key_vault": "https://clinserve.vault.azure.net"},
            "deployments": [{"name": "echo", "engine": {"kind": "echo"}}],
        }
    )
    assert settings.quotas.redis == "rediss://clinserve.redis.azure.net:10000/0"
    assert source(output("storage", "weightsUrl") + "/medgemma-27b") == BlobSource(
        "clinserve", "weights", "medgemma-27b"
    )


def output(module: str, name: str) -> str:
    """A module's output, as it would be for resources that are called `clinserve`."""
    file = MODULES[f"modules/{module}.bicep"]
    known = {
        "login": "clinserve",
        "account.name": "clinserve",
        "database.name": "clinserve",
        "weights.name": "weights",
        "batches.name": "batches",
        "server.properties.fullyQualifiedDomainName": "clinserve.postgres.database.azure.com",
        "cache.properties.hostName": "clinserve.redis.azure.net",
        "account.properties.primaryEndpoints.blob": "https://clinserve.blob.core.windows.net/",
    }
    return re.sub(r"\$\{(.*?)\}", lambda found: known[found[1]], bicep.literal(file.outputs[name][1]))


def test_the_readme_says_that_nothing_was_deployed() -> None:
    assert "We have not deployed this" in (FOLDER / "README.md").read_text()
