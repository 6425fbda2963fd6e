"""The overhead bench without a server: what each peer is started with, and the command's options."""

import json
import socket
import sys
from pathlib import Path

import pytest
import yaml

from loadtests.overhead import engine, peers, servers
from loadtests.overhead.__main__ import arguments, load_of, order
from loadtests.overhead.engine import Engine
from loadtests.overhead.peers import PEERS, Site, described

CONFIG = """
deployments:
  - name: demo
    model: {source: org/model}
    engine: {kind: vllm, args: {max_model_len: 64}, env: {OMP_NUM_THREADS: 1}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    vllm = Engine("demo", "org/model", {"max_model_len": 64}, {"OMP_NUM_THREADS": "1"})
    return Site(tmp_path / "demo.yaml", vllm, tmp_path, ports=9000, workers=2)


def test_engine_arguments_become_command_line_flags() -> None:
    assert engine.flags(
        {
            "max_model_len": 2048,
            "enforce_eager": True,
            "enable_prefix_caching": False,
            "gpu_memory_utilization": 0.4,
            "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
            "cudagraph_capture_sizes": [1, 2, 4],
            "quantization": None,
        }
    ) == [
        *("--max-model-len", "2048"),
        "--enforce-eager",
        "--no-enable-prefix-caching",
        *("--gpu-memory-utilization", "0.4"),
        *("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}'),
        *("--cudagraph-capture-sizes", "1", "2", "4"),
    ]


def test_every_peer_gets_the_engine_of_the_first_deployment(tmp_path: Path, site: Site) -> None:
    site.config.write_text(CONFIG)
    assert engine.read_engine(site.config) == site.engine
    (bare,) = peers.bare(site, "model").launches
    assert bare.command[:5] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", "org/model"]
    assert {"--served-model-name", "demo", "--port", "9001", "--max-model-len", "64"} <= set(bare.command)
    assert bare.environment == {"OMP_NUM_THREADS": "1"}
    for name in ("ray", "ray-unbatched", "ray-direct"):
        (launch,) = PEERS[name].stack(site, "model").launches
        llm = json.loads(launch.command[launch.command.index("--llm") + 1])
        assert llm["engine_kwargs"] == {"max_model_len": 64}
        assert llm["runtime_env"] == {"env_vars": {"OMP_NUM_THREADS": "1"}}
        assert llm["model_loading_config"] == {"model_id": "demo", "model_source": "org/model"}


@pytest.mark.parametrize("kind", ["model", "echo"])
@pytest.mark.parametrize("name", ["gateway", "litellm"])
def test_a_peer_in_front_of_the_bare_engine_is_told_where_it_is(site: Site, name: str, kind: peers.EngineKind) -> None:
    behind, front = PEERS[name].stack(site, kind).launches
    assert behind == peers.engine_launch(site, kind)
    assert front.port == 9000
    (text,) = front.files.values()
    assert f"http://127.0.0.1:{behind.port}/v1" in text


def test_the_product_is_measured_with_the_configuration_that_is_named_and_a_state_of_its_own(site: Site) -> None:
    stack = peers.product(site, "model")
    (launch,) = stack.launches
    assert str(site.config) in launch.command
    assert launch.environment["CLINSERVE_SERVER__STATE_DIR"] == str(site.folder / "state-product")
    assert stack.key_file == site.folder / "state-product" / "demo.key"


def test_before_the_echo_engine_the_product_runs_on_ray_and_the_gateway_alone_does_not(site: Site) -> None:
    for name, runtime in (("product", "ray"), ("gateway", "process")):
        *_, front = PEERS[name].stack(site, "echo").launches
        (text,) = front.files.values()
        assert yaml.safe_load(text)["server"] == {"runtime": runtime}


@pytest.mark.parametrize(("name", "direct"), [("ray", "0"), ("ray-unbatched", "0"), ("ray-direct", "1")])
def test_ray_serve_llm_has_haproxy_and_its_throughput_switches_either_way(site: Site, name: str, direct: str) -> None:
    (launch,) = PEERS[name].stack(site, "model").launches
    assert launch.environment["RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING"] == direct
    assert launch.environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert launch.environment["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
    assert ("stream_batching_interval_ms" in launch.command[-1]) == (name == "ray-unbatched")


def test_in_ray_the_echo_engine_is_inside_the_replica_and_counted_there(site: Site) -> None:
    stack = PEERS["ray"].stack(site, "echo")
    assert not stack.engine_apart
    assert stack.launches[0].environment["RAYLLM_VLLM_ENGINE_CLS"] == "loadtests.overhead.ray_echo.EchoEngine"
    assert PEERS["ray"].stack(site, "model").engine_apart


def test_no_two_processes_of_a_peer_want_the_same_port(site: Site) -> None:
    for peer in PEERS.values():
        for kind in ("model", "echo"):
            stack = peer.stack(site, kind)  # type: ignore[arg-type]
            ports = [launch.port for launch in stack.launches]
            ports += [int(v) for launch in stack.launches for k, v in launch.environment.items() if k.endswith("_PORT")]
            assert len(ports) == len(set(ports)), peer.name


def test_litellm_that_is_not_installed_says_how_to_get_it(site: Site, tmp_path: Path) -> None:
    absent = Site(site.config, site.engine, tmp_path, litellm=tmp_path / "nothing")
    assert PEERS["litellm"].missing(absent) == "not installed; make bench-litellm"
    (tmp_path / "nothing").touch()
    assert PEERS["litellm"].missing(absent) is None
    makefile = (servers.ROOT / "Makefile").read_text()
    assert "\nbench-litellm:" in makefile
    assert str(peers.LITELLM.relative_to(servers.ROOT)) == ".venv/litellm/bin/litellm"


def test_litellm_is_pinned_with_hashes_and_named_by_no_host() -> None:
    text = (servers.ROOT / "requirements/litellm.txt").read_text()
    wanted = (servers.ROOT / "requirements/litellm.in").read_text().split("litellm[proxy]==")[1].strip()
    assert f"litellm=={wanted} " in text
    assert "--hash=sha256:" in text
    assert "://" not in text


def test_what_is_shown_of_a_peer_names_neither_this_machine_nor_its_folders(site: Site) -> None:
    inside = Site(site.config, site.engine, servers.ROOT / ".clinserve/bench", workers=2)
    for peer in PEERS.values():
        lines = "\n".join(described(peer.stack(inside, "echo")))
        assert str(servers.ROOT) not in lines
        assert sys.executable not in lines


@pytest.mark.parametrize(
    "text", ["", "deployments: []", "deployments: [{name: a}]", "a: [", CONFIG.replace("vllm", "echo")]
)
def test_a_configuration_without_vllm_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo.yaml").write_text(text)
    with pytest.raises(servers.BenchError, match=r"demo\.yaml"):
        engine.read_engine(tmp_path / "demo.yaml")


def test_a_taken_port_and_a_missing_model_are_clear_errors() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(servers.BenchError, match="in use"):
            servers.check_port(taken.getsockname()[1])
    with pytest.raises(servers.BenchError, match=r"no model in ../nothing"):
        engine.check_model(Engine("demo", "../nothing", {}, {}))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", ("127.0.0.1", 8000, "/v1/chat/completions", False)),
        ("https://example.org/base/v1/", ("example.org", 443, "/base/v1/chat/completions", True)),
    ],
)
def test_a_server_is_named_by_its_base_url(url: str, expected: tuple[str, int, str, bool]) -> None:
    address = servers.Target(url, "m", "", None).address
    assert (address["host"], address["port"], address["path"], address["tls"]) == expected


def test_the_readme_says_of_every_peer_what_it_is() -> None:
    text = (servers.ROOT / "loadtests/overhead/README.md").read_text()
    assert [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")] == list(PEERS)


# the command


def test_the_default_measures_all_peers_twice_and_quick_the_main_ones_once() -> None:
    usual, quick = arguments([]), arguments(["--quick"])
    assert (usual.rounds, usual.peers, usual.engines) == (2, list(PEERS), ["model", "echo"])
    assert load_of(usual).streams == (1, 16, 64, 256)
    assert quick.rounds == 1
    assert "ray-unbatched" not in quick.peers
    assert load_of(quick).answers < load_of(usual).answers


def test_peers_and_streams_are_chosen_by_name_and_number() -> None:
    options = arguments(["--quick", "--peers", "product,bare", "--streams", "8,2", "--rounds", "3"])
    assert (options.peers, load_of(options).streams, options.rounds) == (["bare", "product"], (2, 8), 3)


def test_every_second_round_goes_backwards() -> None:
    assert [order(["a", "b", "c"], number) for number in (1, 2)] == [["a", "b", "c"], ["c", "b", "a"]]


@pytest.mark.parametrize(
    "words",
    [
        ["--rounds", "-1"],
        ["--tokens", "1"],
        ["--streams", "0"],
        ["--streams", "many"],
        ["--peers", "bare,nobody"],
        ["--engines", "steam"],
        ["--url", "nobody=http://127.0.0.1"],
        ["--peers", "bare", "--fail-under", "0.6"],
    ],
)
def test_options_that_make_no_sense_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
