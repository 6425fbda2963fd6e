"""The settings tree: what it reads, what it refuses, and how it explains a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.app import load_settings
from serving.settings import Settings, SettingsError, load, parse

CONFIGS = sorted((Path(__file__).parents[1] / "deploy" / "configs").glob("*.yaml"))
CONFIGS.remove(CONFIGS[0].with_name("adapters.yaml"))  # a list that demo-adapters.yaml names
ECHO = {"name": "echo", "engine": {"kind": "echo"}}
VLLM = {"name": "big", "model": {"source": "org/model"}, "engine": {"kind": "vllm"}}


def settings(**sections: Any) -> Settings:
    return parse({"deployments": [ECHO]} | sections)


def problems(**sections: Any) -> list[str]:
    """The lines of the error that these settings are refused with, without their origin."""
    with pytest.raises(SettingsError) as refused:
        settings(**sections)
    return [line.removeprefix("settings: ") for line in str(refused.value).splitlines()]


def engine(**changes: Any) -> list[dict[str, Any]]:
    return [ECHO | {"engine": {"kind": "echo"} | changes}]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(5, 5), (0.5, 0.5), ("30s", 30), ("250ms", 0.25), ("5m", 300), ("1.5h", 5400), ("2 D", 172800), ("7", 7)],
)
def test_a_duration_is_seconds_or_has_a_unit(written: Any, seconds: float) -> None:
    assert settings(server={"idle_timeout": written}).server.idle_timeout == seconds


@pytest.mark.parametrize(
    ("written", "size"), [(5, 5), ("5b", 5), ("4MiB", 2**22), ("1.5kB", 1500), ("2 GiB", 2**31), ("1MB", 10**6)]
)
def test_a_size_is_bytes_or_has_a_unit(written: Any, size: int) -> None:
    assert settings(server={"max_body": written}).server.max_body == size


@pytest.mark.parametrize("written", ["5 fortnights", "-5s", -1, "s", "", None, [5], "1.2.3s", float("nan")])
def test_what_is_no_duration_is_refused_by_its_place(written: Any) -> None:
    (line,) = problems(server={"idle_timeout": written})
    assert line.startswith("server.idle_timeout: ")


def test_an_unknown_unit_is_answered_with_the_known_ones() -> None:
    assert problems(server={"max_body": "4 MeB"}) == [
        "server.max_body: unknown unit 'MeB'; use one of b, kb, mb, gb, kib, mib, gib"
    ]


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"sever": {}}, "sever: unknown setting; did you mean 'server'?"),
        ({"server": {"prot": 1}}, "server.prot: unknown setting; did you mean 'port'?"),
        ({"deployments": [ECHO | {"replica": 1}]}, "deployments[0].replica: unknown setting; did you mean 'replicas'?"),
        (
            {"deployments": [ECHO, ECHO | {"name": "b", "limits": {"max_token": 1}}]},
            "deployments[1].limits.max_token: unknown setting; did you mean 'max_tokens'?",
        ),
        (
            {"deployments": engine(first_tokn=1)},
            "deployments[0].engine.first_tokn: unknown setting; did you mean 'first_token'?",
        ),
        (
            {"deployments": engine(failures=[{"action": "die", "afer": 1}])},
            "deployments[0].engine.failures[0].afer: unknown setting; did you mean 'after'?",
        ),
        (
            {"deployments": [VLLM | {"engine": {"kind": "vllm", "tensor_parallel": 2}}]},
            "deployments[0].engine.tensor_parallel: unknown setting; did you mean 'tensor_parallel_size'?",
        ),
        ({"secrets": {"http": 1}}, "secrets.http: unknown setting; known here: key_vault, prefix, refresh"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_at_its_place(sections: dict[str, Any], line: str) -> None:
    assert problems(**sections) == [line]


@pytest.mark.parametrize("name", ["echo", "vllm", "http"])
def test_an_engines_name_in_the_wrong_place_is_an_unknown_setting_too(name: str) -> None:
    assert problems(**{name: {}})[0].startswith(f"{name}: unknown setting")


def test_every_mistake_is_told_at_once() -> None:
    lines = problems(server={"port": 0, "hots": "x"}, gateway={"replicas": "many"}, deployments=engine(first_token="x"))
    assert sorted(line.partition(":")[0] for line in lines) == [
        "deployments[0].engine.first_token", "gateway.replicas", "server.hots", "server.port",
    ]  # fmt: skip


def test_a_value_is_not_repeated_in_an_error() -> None:
    assert "CANARY" not in str(problems(server={"port": "CANARY"}, database={"url": ["CANARY"]}))


@pytest.mark.parametrize("deployments", [[], None, {}, "echo"])
def test_without_deployments_there_is_nothing_to_serve(deployments: Any) -> None:
    (line,) = problems(deployments=deployments)
    assert line.startswith("deployments: ")
    with pytest.raises(SettingsError, match="deployments: Field required"):
        parse({})


def test_an_engine_must_say_its_kind() -> None:
    for wrong in ({}, {"kind": "llama"}):
        (line,) = problems(deployments=[ECHO | {"engine": wrong}])
        assert line.startswith("deployments[0].engine: ") and "'kind'" in line


def test_two_deployments_need_two_names() -> None:
    assert problems(deployments=[ECHO, ECHO]) == ["deployments: two have the same name"]


@pytest.mark.parametrize("name", ["Echo", "a b", "-a", "a/b", "", "x" * 64, "é", "a\n"])
def test_a_name_is_safe_in_urls_and_labels(name: str) -> None:
    (line,) = problems(deployments=[ECHO | {"name": name}])
    assert line.startswith("deployments[0]: name: use lower-case letters")


def test_one_process_cannot_run_vllm() -> None:
    (line,) = problems(server={"runtime": "process"}, deployments=[ECHO, VLLM])
    assert line == "server.runtime: 'process' cannot run vLLM (big); use 'ray'"


def test_vllm_needs_a_model_and_a_cpu_has_no_accelerators() -> None:
    assert problems(deployments=[VLLM | {"model": {}}]) == ["deployments[0]: model.source: vLLM needs one"]
    for changes in ({"tensor_parallel_size": 2}, {"accelerator_type": "H100"}):
        (line,) = problems(deployments=[VLLM | {"engine": {"kind": "vllm", "device": "cpu"} | changes}])
        assert line.endswith("need 'device: gpu'")


PINNED = {"source": "az://account1/models/x", "digest": "sha256:" + "0" * 64}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (PINNED | {"digest": None}, "digest: az:// needs one"),
        (PINNED | {"revision": "main"}, "revision: blobs have none; digest pins them"),
        (PINNED | {"digest": "0" * 64}, "String should match pattern"),
        ({"source": "https://account1.blob.core.windows.net/models/x"}, "az://ACCOUNT/CONTAINER/PREFIX"),
        ({"source": "az://account1"}, "az://ACCOUNT/CONTAINER/PREFIX"),
    ],
)
def test_weights_of_blobs_need_a_digest_and_a_source_has_one_form(model: dict[str, Any], said: str) -> None:
    (line,) = problems(deployments=[VLLM | {"model": model}])
    assert said in line


def test_a_source_with_a_scheme_is_left_as_it_is_and_the_folder_becomes_absolute() -> None:
    for model in (PINNED, {"source": "hf://org/model", "revision": "0" * 40}):
        read = settings(deployments=[VLLM | {"model": model}], weights={"folder": "models"})
        assert read.deployments[0].model.source == model["source"]
        assert read.weights.folder == Path.cwd() / "models"


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings().server.port = 9000  # type: ignore[misc]


def write(folder: Path, tree: Any) -> Path:
    file = folder / "config.yaml"
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    return file


def test_a_models_directory_is_found_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    for source in ("weights", "./weights", str(tmp_path / "weights")):
        file = write(tmp_path, {"deployments": [VLLM | {"model": {"source": source}}]})
        assert load(file, {}).deployments[0].model.source == str(tmp_path / "weights")


def test_what_is_no_directory_is_a_hugging_face_id_and_left_alone(tmp_path: Path) -> None:
    model = {"source": "org/model", "revision": "0123abc"}
    read = load(write(tmp_path, {"deployments": [VLLM | {"model": model}]}), {}).deployments[0].model
    assert (read.source, read.revision) == ("org/model", "0123abc")


def test_a_directory_that_is_missing_or_has_a_revision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.source: there is no directory .*/weights"):
        load(write(tmp_path, {"deployments": [VLLM | {"model": {"source": "./weights"}}]}), {})
    (tmp_path / "weights").mkdir()
    with pytest.raises(SettingsError, match=r"model\.revision: a directory has no revision"):
        load(write(tmp_path, {"deployments": [VLLM | {"model": {"source": "weights", "revision": "main"}}]}), {})


def test_state_becomes_absolute_from_the_working_directory_and_the_database_lies_in_it(tmp_path: Path) -> None:
    read = load(write(tmp_path, {"deployments": [ECHO]}), {})
    assert read.server.state_dir == Path.cwd() / ".clinserve"
    assert read.database_url == f"sqlite:///{Path.cwd()}/.clinserve/clinserve.db"
    assert settings(database={"url": "postgresql://h/d"}).database_url == "postgresql://h/d"


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, {"deployments": [ECHO], "server": {"port": 1, "host": "h"}})
    environ = {
        "CLINSERVE_SERVER__PORT": "9000", "CLINSERVE_SERVER__IDLE_TIMEOUT": "5m", "CLINSERVE_TELEMETRY__METRICS": "off",
        "CLINSERVE_KEYS__DEMO_KEY_FILE": "null", "CLINSERVE_CONFIG": "x", "CLINSERVE_PEPPER": "x", "OTHER__NAME": "1",
    }  # fmt: skip
    read = load(file, environ)
    assert (read.server.port, read.server.host, read.server.idle_timeout) == (9000, "h", 300)
    assert (read.telemetry.metrics, read.keys.demo_key_file) == (False, None)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CLINSERVE_SERVER__PROT", "1", "server.prot: unknown setting; did you mean 'port'"),
        ("CLINSERVE_SEVER__PORT", "1", "sever: unknown setting; did you mean 'server'"),
        ("CLINSERVE_SERVER__PORT", "many", "server.port: Input should be a valid integer"),
        ("CLINSERVE_SERVER__PORT__X", "1", "CLINSERVE_SERVER__PORT__X: port is a list or a value"),
        ("CLINSERVE_DEPLOYMENTS__0__NAME", "x", "CLINSERVE_DEPLOYMENTS__0__NAME: deployments is a list"),
        ("CLINSERVE_SERVER__HOST", "{", "CLINSERVE_SERVER__HOST: not valid YAML"),
    ],
)
def test_an_override_that_fits_nothing_is_refused_by_name(tmp_path: Path, name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("[", r"\[")):
        load(write(tmp_path, {"deployments": [ECHO], "server": {"port": 1}}), {name: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deployments: [", "not valid YAML"), ("- a\n- b", "expected settings at the top"), ("text", "expected"),
        ("", "deployments: Field required"), ("a: !!python/object:os.system {}", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_settings_is_refused_by_its_path(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=rf"config\.yaml: {message}"):
        load(write(tmp_path, text), {})


def test_a_file_that_cannot_be_read_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config\.yaml: No such file"):
        load(tmp_path / "config.yaml", {})
    with pytest.raises(SettingsError, match="Is a directory"):
        load(tmp_path, {})
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"config\.yaml: not valid YAML"):
        load(tmp_path / "config.yaml", {})


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_configuration_that_we_ship_can_be_used(file: Path) -> None:
    assert load_settings(file).deployments


def test_vllms_arguments_are_checked_when_the_file_is_read(tmp_path: Path) -> None:
    args = {"max_model_length": 1, "max_num_seqs": 2, "served_model_name": "x"}
    file = write(tmp_path, {"deployments": [ECHO, VLLM | {"engine": {"kind": "vllm", "args": args}}]})
    with pytest.raises(SettingsError) as refused:
        load_settings(file)
    place = f"{file}: deployments[1].engine.args"
    assert str(refused.value).splitlines() == [
        f"{place}.max_model_length: vLLM has no such argument; did you mean 'max_model_len'?",
        f"{place}.served_model_name: set the deployment's name instead",
    ]


@pytest.mark.parametrize(
    ("device", "upgrade", "surges"),
    [("gpu", None, False), ("cpu", None, True), ("gpu", "surge", True), ("cpu", "in_place", False)],
)
def test_replicas_on_gpus_are_replaced_without_spare_gpus(
    tmp_path: Path, device: str, upgrade: str | None, surges: bool
) -> None:
    deployment = VLLM | {"engine": {"kind": "vllm", "device": device}, "upgrade": upgrade}
    (read,) = load(write(tmp_path, {"deployments": [deployment]}), {}).deployments
    assert read.surges is surges


def test_several_gateways_need_one_place_for_files() -> None:
    several: dict[str, Any] = {"gateway": {"replicas": 2}, "quotas": {"redis": "redis://h"}, "deployments": [ECHO]}
    with pytest.raises(SettingsError, match=r"several replicas need the same place for files: batches.blob, or a"):
        parse(several)
    for batches in ({"shared": True}, {"folder": "/mnt/files", "shared": True}, {"blob": "https://a.b/files"}):
        parse(several | {"batches": batches})
