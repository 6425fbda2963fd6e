"""What values may say: a misspelt or contradictory one is refused with its mend, and every one is documented."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from helm import made
from tests.helm.chart import CHART, LOAD_TEST, NEWEST, OLDEST, Tree, merged, problems, render, story

VALUES: Tree = yaml.safe_load((CHART / "values.yaml").read_text())
VLLM: Tree = {"name": "m", "model": {"source": "org/model"}, "engine": {"kind": "vllm", "accelerator_type": "H100"}}
H100: Tree = {"name": "h100", "gpus": 1, "acceleratorType": "H100", "cpu": 8, "memory": "64Gi"}
A100: Tree = {"name": "a100", "gpus": 1, "acceleratorType": "A100", "cpu": 8, "memory": "64Gi"}

ANYWHERE: Tree = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}
OPERATOR: Tree = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}}

MISSPELT: list[tuple[Tree, str]] = [
    ({"deploymnets": []}, "additional properties 'deploymnets' not allowed"),
    ({"config": {"gateway": {"replcas": 2}}}, "at '/config/gateway': additional properties 'replcas' not allowed"),
    ({"config": {"server": {"runtime": "process"}}}, "at '/config/server/runtime': value must be 'ray'"),
    ({"config": {"server": {"host": "127.0.0.1"}}}, "at '/config/server/host'"),
    ({"config": {"server": {"state_dir": "state"}}}, "at '/config/server/state_dir'"),
    ({"config": {"server": {"max_stream": "1 fortnight"}}}, "at '/config/server/max_stream'"),
    ({"config": {"quotas": {"when_away": "panic"}}}, "value must be one of 'admit', 'refuse'"),
    ({"deployments": []}, "at '/deployments': minItems"),
    ({"deployments": [{"name": "x", "engine": {"kind": "vlm"}}]}, "value must be one of 'echo', 'http', 'vllm'"),
    ({"deployments": [{"name": "x", "engine": {"kind": "vllm", "devise": "cpu"}}]}, "'devise' not allowed"),
    ({"deployments": [{"name": "x", "engine": {"kind": "echo", "first_token": "soon"}}]}, "first_token"),
    ({"workerGroups": [H100 | {"gpu": 1}]}, "at '/workerGroups/0': additional properties 'gpu' not allowed"),
    ({"workerGroups": [H100 | {"idleTimeoutSeconds": 60}]}, "idleTimeoutSeconds': minimum: got 60, want 300"),
    ({"workerGroups": [H100 | {"name": "gateway"}]}, "at '/workerGroups/0/name'"),
    ({"weights": {"kind": "hostPath"}}, "value must be one of 'none', 'claim', 'ephemeral', 'blob', 'image'"),
    ({"upgrade": {"strategy": "NewClusterWithIncrementalUpgrade"}}, "value must be one of 'NewCluster', 'None'"),
    ({"user": 0}, "at '/user': minimum"),
    ({"image": {"digest": "sha256:short"}}, "at '/image/digest'"),
    ({"rayVersion": "latest"}, "at '/rayVersion'"),
    ({"networkPolicy": {"internet": True}}, "'internet' not allowed"),
    (
        {"networkPolicy": {"operator": [OPERATOR]}},
        "at '/networkPolicy/operator/0': missing property 'namespaceSelector'",
    ),
    (
        {"networkPolicy": {"operator": [OPERATOR | {"namespaceSelector": {}}]}},
        "'/networkPolicy/operator/0/namespaceSelector'",
    ),
    ({"networkPolicy": {"prometheus": []}}, "at '/networkPolicy/prometheus': minItems"),
    ({"networkPolicy": {"database": {"to": [{}]}}}, "at '/networkPolicy/database/to/0': minProperties"),
    ({"networkPolicy": {"database": {"to": [{"ipBlok": {"cidr": "10.0.0.1/32"}}]}}}, "'ipBlok' not allowed"),
    ({"networkPolicy": {"gatewayEgress": [{"ports": [{"port": 443}]}]}}, "gatewayEgress/0': missing property 'to'"),
    ({"networkPolicy": {"gatewayEgress": [{"to": [ANYWHERE]}]}}, "gatewayEgress/0': missing property 'ports'"),
    ({"head": {"faultTolerance": {"redisAddress": "redis://user:word@host:6379"}}}, "redisAddress"),
]


@pytest.mark.parametrize(("change", "said"), MISSPELT, ids=lambda value: value if isinstance(value, str) else "")
def test_the_schema_refuses(change: Tree, said: str) -> None:
    assert said in problems(merged(story("default"), change))


CONTRADICTIONS: list[tuple[str, Tree, str]] = [
    ("default", {"image": {"repository": ""}}, "image.repository: say where"),
    ("default", {"image": {"tag": ""}}, "image.digest: name the image"),
    ("default", {"image": {"tag": "latest"}}, "image.tag: 'latest' is another image every day"),
    ("default", {"fullnameOverride": "a" * 48}, "at most 47 characters"),
    ("default", {"secrets": {"existingSecret": ""}}, "clinserve secrets NAME | kubectl apply -f -"),
    ("default", {"secrets": {"externalSecret": {"enabled": True}}}, "existingSecret and externalSecret are alternatives"),
    ("default", {"config": {"database": {"url": "sqlite:////data/x.db"}}}, "2 gateways cannot share the embedded SQLite"),
    ("default", {"config": {"quotas": {"redis": None}}}, "config.quotas.redis: 2 gateways need one to count in"),
    ("one-gpu", {"state": {"existingClaim": ""}}, "the embedded SQLite would be lost with its pod"),
    ("default", {"files": {"existingClaim": ""}}, "files.existingClaim: 2 gateways need one place for files"),
    ("aks", {"config": {"batches": {"blob": None}}}, "files.existingClaim: 3 gateways need one place for files"),
    ("aks", {"files": {"existingClaim": "x"}}, "config.batches.blob and a claim are alternatives"),
    ("one-gpu", {"state": {"existingClaim": ""}, "config": {"database": {"url": "postgresql+psycopg://h/c"}}}, "files would be lost with the gateway's pod"),
    ("default", {"config": {"gateway": {"resource": None}}}, "the files' claim is in the gateway's pods only"),
    ("one-gpu", {"config": {"gateway": {"resource": None}}}, "config.gateway.resource"),
    ("default", {"trial": {"enabled": True}}, "trial.enabled: brings its own PostgreSQL and Redis"),
    ("default", {"deployments": [VLLM]}, "'m' needs GPUs; add a group with gpus"),
    ("default", {"deployments": [VLLM], "workerGroups": [A100]}, "none has acceleratorType H100, which 'm' asks for; there are A100"),
    ("default", {"deployments": [merged(VLLM, {"engine": {"accelerator_type": None}})], "workerGroups": [A100, H100]}, "does not say which GPU"),
    ("default", {"deployments": [merged(VLLM, {"engine": {"tensor_parallel_size": 2}})], "workerGroups": [H100]}, "needs 2 GPUs in one pod, the largest fitting group has 1"),
    ("default", {"deployments": [VLLM], "workerGroups": [H100 | {"cpu": 1}]}, "reserves 2 CPUs"),
    ("default", {"deployments": [merged(VLLM, {"engine": {"device": "cpu", "accelerator_type": None}})]}, "add a group without gpus"),
    ("default", {"deployments": [merged(VLLM, {"model": {"source": "/models/x"}})], "workerGroups": [H100]}, "pin them by model.digest"),
    ("default", {"deployments": [VLLM | {"spill_to": "n"}], "workerGroups": [H100]}, "'m' spills to 'n', which is none of m"),
    ("default", {"deployments": [VLLM, VLLM], "workerGroups": [H100]}, "two are called 'm'"),
    ("default", {"workerGroups": [H100 | {"minReplicas": 2, "maxReplicas": 1}]}, "'h100' has minReplicas above maxReplicas"),
    ("default", {"workerGroups": [H100, H100]}, "two are called 'h100'"),
    ("default", {"deployments": [{"name": "x", "engine": {"kind": "http", "url": "http://x/v1", "key_env": "X_KEY"}}]}, "gatewayPods.env: an engine's key_env is X_KEY; add an item"),
    ("default", {"extraEnv": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]}, "extraEnv: every pod would see X"),
    ("default", {"extraEnv": [{"name": "X_KEY", "value": "y"}], "gatewayPods": {"env": [{"name": "X_KEY", "value": "y"}]}}, "extraEnv: every pod would see X_KEY"),
    ("default", {"extraVolumes": [{"name": "ca", "secret": {"secretName": "clinserve"}}]}, "extraVolumes: every pod would see what 'ca' brings"),
    ("default", {"extraVolumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}, "extraVolumes: every pod would see what 't'"),
    ("default", {"head": {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "clinserve", "key": "pepper"}}}]}}, "head.env: X is from the Secret clinserve"),
    ("default", {"weights": {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "clinserve", "key": "pepper"}}}]}}, "weights.env: X is from the Secret clinserve"),
    ("one-gpu", {"workerGroups": [H100 | {"acceleratorType": "A10G", "volumes": [{"name": "s", "secret": {"secretName": "clinserve"}}]}]}, "h100.volumes: 's' is from the Secret clinserve"),
    ("aks", {"azureWorkloadIdentity": {"engineClientId": ""}}, "azureWorkloadIdentity.engineClientId: 'medgemma-27b' is downloaded"),
    ("aks", {"azureWorkloadIdentity": {"engineClientId": "11111111-2222-3333-4444-555555555555"}}, "is the gateways' own; an engine must not be"),
    ("aks", {"config": {"secrets": {"key_vault": "https://x.vault.azure.net"}}}, "config.secrets.key_vault: who may read a vault reads all of it"),
    ("default", {"deployments": [VLLM], "workerGroups": [H100], "weights": {"kind": "image", "image": {"reference": "r/m:1"}}}, "name the image by digest"),
    ("default", {"deployments": [VLLM], "workerGroups": [H100], "weights": {"kind": "blob"}}, "weights.blob: name storageAccount and container"),
    ("default", {"weights": {"kind": "claim"}}, "weights.claim: name an existingClaim"),
    ("default", {"weights": {"kind": "ephemeral", "prefetch": {"enabled": True}}}, "a job can only fill a claim"),
    ("aks", {"weights": {"readOnly": True}}, "weights.readOnly: 'medgemma-27b' is downloaded"),
    ("default", {"terminationGracePeriodSeconds": 300}, "more than 330, or 0 to have it worked out"),
    ("default", {"httpRoute": {"enabled": True, "hostnames": ["x.example"]}}, "httpRoute.parentRefs: name the Gateway"),
    ("aks", {"httpRoute": {"hostnames": []}}, "httpRoute.hostnames: name at least one"),
    ("one-gpu", {"ingress": {"tlsSecret": ""}}, "ingress.tlsSecret"),
    ("locked-down", {"networkPolicy": {"weights": {"to": [ANYWHERE]}}}, "offline: contradicts 0.0.0.0/0 in networkPolicy"),
    ("default", {"networkPolicy": {"database": {"to": []}}}, "networkPolicy.database.to: say where it is"),
    ("default", {"networkPolicy": {"redis": {"to": []}}}, "networkPolicy.redis.to: say where it is"),
    ("default", {"networkPolicy": {"apiServer": {"to": []}}}, "networkPolicy.apiServer.to: say where it is"),
    ("aks", {"networkPolicy": {"rayRedis": {"to": []}}}, "networkPolicy.rayRedis.to: say where it is"),
    ("aks", {"networkPolicy": {"otlp": {"to": []}}}, "networkPolicy.otlp.to: say where it is"),
    ("aks", {"networkPolicy": {"weights": {"to": []}}}, "networkPolicy.weights.to: weights come from az://hospitalmodels"),
    ("aks", {"networkPolicy": {"gatewayEgress": []}}, "networkPolicy.gatewayEgress: 'gpt-elsewhere' is, config.identity.issuers are, config.batches.blob is elsewhere"),
    ("aks", {"networkPolicy": {"weights": {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}}}, "0.0.0.0/0 has the nodes' metadata in it"),
    ("locked-down", {"deployments": [{"name": "x", "engine": {"kind": "http", "url": "http://x/v1"}}]}, "'x' is elsewhere; say where"),
    ("aks", {"monitoring": {"rules": {"enabled": True}}}, "azmonitoring.coreos.com/v1 has no PrometheusRule"),
    ("aks", {"azureWorkloadIdentity": {"clientId": ""}}, "keyVaultCsi needs azureWorkloadIdentity.clientId"),
    ("default", {"loadTest": LOAD_TEST}, "loadTest.enabled: needs a key"),
    ("laptop", {"loadTest": {"enabled": True}}, "loadTest.image.repository: say where the image is"),
    ("laptop", {"loadTest": {"enabled": True, "image": {"repository": "load"}}}, "loadTest.image.digest: name the image"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "said"), CONTRADICTIONS, ids=[said for *_, said in CONTRADICTIONS])
def test_values_that_contradict_each_other_are_refused_with_their_mend(name: str, change: Tree, said: str) -> None:
    assert said in problems(merged(story(name), change))


def test_everything_that_is_wrong_is_told_at_once() -> None:
    said = problems({})
    assert all(
        word in said for word in ("image.repository", "image.digest", "secrets.existingSecret", "config.database.url")
    )


def test_an_image_volume_is_refused_where_kubernetes_has_none() -> None:
    assert "need Kubernetes 1.35" in problems(story("locked-down"), kube_version=OLDEST)


def test_the_schema_the_rules_and_the_dashboards_are_what_they_are_made_of() -> None:
    assert json.loads((CHART / "values.schema.json").read_text()) == made.schema(VALUES), "run: make chart"
    for folder, pattern in made.COPIES.items():
        ours = {file.name: file.read_text() for file in (CHART / folder).iterdir()}
        assert ours == {file.name: file.read_text() for file in made.ROOT.glob(pattern)}, "run: make chart"


def test_the_readme_has_every_value_with_its_default_and_its_meaning() -> None:
    found = made.TABLE.search((CHART / "README.md").read_text())
    assert found and found[0].strip() == made.table(), "run: make chart"
    rows = re.findall(r"^\| `([^`]+)` \| (\S.*?) \|", made.table(), re.MULTILINE)
    assert {path for path, _ in rows} == set(made.leaves(VALUES))


def test_every_value_is_used() -> None:
    templates = "".join(file.read_text() for file in (CHART / "templates").rglob("*") if file.is_file())
    assert {path for path in made.leaves(VALUES) if path.rpartition(".")[2] not in templates} == set()


def test_a_large_number_stays_a_number() -> None:
    """Helm reads numbers as floats; written carelessly, 10000000 is 1e+07."""
    wanted = merged(story("default"), {"config": {"batches": {"max_file": 209715200}, "audit": {"grace": 2.5}}})
    config = render(wanted, kube_version=NEWEST).serve_config["applications"][0]["args"]["config"]
    assert (config["batches"]["max_file"], config["audit"]["grace"]) == (209715200, 2.5)
