"""Which pod sees which secret: in files, in variables, in tokens. README of the chart, "Who sees what"."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.helm.chart import LOAD_TEST, STORIES, Rendered, Tree, merged, render, rendered, story

every_story = pytest.mark.parametrize("name", STORIES)
EVERYTHING: Tree = {"demoKey": {"enabled": True}, "loadTest": LOAD_TEST}

ENGINE = {"engine-secret"}
EVIDENCE = {"pepper", "audit-secret", "audit-signing-key"}
PASSWORDS = {"database-password", "redis-password"}
ALLOWED: dict[str, set[str]] = {
    "gateway": EVIDENCE | PASSWORDS | ENGINE | {"cache-salt", "content-secret", "engines-key/key"},
    "engine": ENGINE,
    "prepare": EVIDENCE | {"database-password", "admin-key", "demo-key"},
    "prefetch": set(),
    "test": {"demo-key"},
    "load-test": {"demo-key"},
    "trial": PASSWORDS,  # one each; below
    "head": set(),
}
PRODUCTS = {"clinserve", "engines", "rel-clinserve-secrets", "rel-clinserve-test"}
"""What the stories call the product's Secret, and what a driver makes of the vault. Others are who put them there."""
BY_KUBERAY = {"auth_token", "redis-password"}
"""With Key Vault the head brings a Secret of these for KubeRay, which gives them to Ray's processes itself."""


def whole(name: str) -> Rendered:
    return render(merged(story(name), EVERYTHING))


def role_of(template: Tree) -> str:
    return str(template["metadata"]["labels"]["app.kubernetes.io/component"])


def seen(wanted: Rendered, template: Tree) -> set[str]:
    """Every key of the product's Secret, or of the vault, that any container of this pod can read."""
    return set(_files(wanted, template)) | set(_variables(template))


def _files(wanted: Rendered, template: Tree) -> Iterator[str]:
    for volume in template["spec"]["volumes"]:
        if "secret" in volume:
            assert volume["secret"].get("items"), f"{volume['name']}: a Secret is mounted whole"
            yield from (item["key"] for item in volume["secret"]["items"])
        for source in volume.get("projected", {}).get("sources", []):
            assert set(source) == {"secret"} and source["secret"]["items"], volume["name"]
            yield from (item["key"] for item in source["secret"]["items"])
        if "csi" in volume:
            class_of = wanted.one("SecretProviderClass", volume["csi"]["volumeAttributes"]["secretProviderClass"])
            yield from re.findall(r"objectAlias: (\S+)", class_of["spec"]["parameters"]["objects"])


def _variables(template: Tree) -> Iterator[str]:
    for container in (*template["spec"].get("initContainers", ()), *template["spec"]["containers"]):
        assert not container.get("envFrom"), "a Secret's every key as variables"
        for one in container.get("env", ()):
            if "secretKeyRef" in one.get("valueFrom", {}):
                secret = one["valueFrom"]["secretKeyRef"]
                yield secret["key"] if secret["name"] in PRODUCTS else f"{secret['name']}/{secret['key']}"


@every_story
def test_a_pod_sees_the_secrets_of_its_role_and_no_others(name: str) -> None:
    wanted = whole(name)
    for pod, template in wanted.pods():
        role = role_of(template)
        allowed = ALLOWED[role] | (BY_KUBERAY if role == "head" and wanted.of("SecretProviderClass") else set())
        assert seen(wanted, template) <= allowed, pod


@every_story
def test_an_engine_sees_its_own_secret_alone_and_a_gateway_all_that_it_works_with(name: str) -> None:
    wanted = whole(name)
    by_role = {role_of(template): seen(wanted, template) for _, template in wanted.pods()}
    assert by_role["gateway"] >= EVIDENCE | ENGINE | {"cache-salt", "content-secret"}
    assert by_role.get("engine", ENGINE) == ENGINE
    assert by_role["prepare"] >= EVIDENCE | {"admin-key", "demo-key"}


@every_story
def test_the_containers_beside_a_gateway_or_an_engine_see_none(name: str) -> None:
    for pod, template in whole(name).pods():
        for container in template["spec"].get("initContainers", ()) or ():
            assert "secrets" not in {mount["name"] for mount in container["volumeMounts"]}, pod
        for container in template["spec"]["containers"]:
            if container["name"] in ("metrics", "request-log"):
                assert "secrets" not in {mount["name"] for mount in container["volumeMounts"]}, pod
                assert not [one for one in container.get("env", ()) if "valueFrom" in one], pod


@every_story
def test_what_is_mounted_is_what_the_product_is_told_to_read(name: str) -> None:
    """A variable without its file stops a process; a file without its variable is there for nobody."""
    wanted = whole(name)
    for pod, template in wanted.pods():
        if role_of(template) == "trial":
            continue
        files = {f"/etc/clinserve/secrets/{one}" for one in _files(wanted, template)}
        main = template["spec"]["containers"][0]
        told = {one["value"] for one in main.get("env", ()) if str(one.get("value", "")).startswith("/etc/clinserve/s")}
        if role_of(template) not in ("head", "test", "load-test"):
            assert told == files, pod


def test_each_store_of_a_trial_sees_its_own_password() -> None:
    wanted = whole("laptop")
    found = {pod: seen(wanted, template) for pod, template in wanted.pods() if role_of(template) == "trial"}
    assert sorted(sorted(one) for one in found.values()) == [["database-password"], ["redis-password"]]


def test_a_key_of_an_engine_elsewhere_is_the_gateways_and_the_hubs_token_the_engines() -> None:
    from_secret = {"valueFrom": {"secretKeyRef": {"name": "others", "key": "x"}}}
    changes: Tree = {
        "gatewayPods": {"env": [{"name": "ELSEWHERE_KEY", **from_secret}]},
        "weights": {"env": [{"name": "HF_TOKEN", **from_secret}]},
    }
    wanted = render(merged(story("aks"), EVERYTHING, changes))
    have: dict[str, set[str]] = {}
    for _, template in wanted.pods():
        names = {one["name"] for container in template["spec"]["containers"] for one in container.get("env", ())}
        for variable in names & {"ELSEWHERE_KEY", "HF_TOKEN"}:
            have.setdefault(variable, set()).add(role_of(template))
    assert have == {"ELSEWHERE_KEY": {"gateway"}, "HF_TOKEN": {"engine", "prefetch"}}


@every_story
def test_an_azure_identity_is_where_it_is_used_and_an_engines_is_not_the_gateways(name: str) -> None:
    wanted = whole(name)
    given = story(name).get("azureWorkloadIdentity", {})
    of_role = {"gateway": given.get("clientId"), "engine": given.get("engineClientId")}
    of_role["prefetch"] = of_role["engine"]
    accounts = {one["metadata"]["name"]: one["metadata"].get("annotations", {}) for one in wanted.of("ServiceAccount")}
    for pod, template in wanted.pods():
        role = role_of(template)
        expected = of_role.get(role)
        assert (template["metadata"]["labels"].get("azure.workload.identity/use") == "true") == bool(expected), pod
        if role != "trial":
            account = accounts[template["spec"]["serviceAccountName"]]
            assert account.get("azure.workload.identity/client-id") == (expected or None), pod


@every_story
def test_each_role_has_an_account_of_its_own_and_no_account_a_token_by_itself(name: str) -> None:
    wanted = whole(name)
    accounts: dict[str, set[str]] = {}
    for _, template in wanted.pods():
        if role_of(template) != "trial":
            accounts.setdefault(template["spec"]["serviceAccountName"], set()).add(role_of(template))
    shared = {frozenset({"engine", "prefetch"}), frozenset({"test", "load-test"})}
    assert all(len(roles) == 1 or frozenset(roles) in shared for roles in accounts.values())
    assert all(one["automountServiceAccountToken"] is False for one in wanted.of("ServiceAccount"))
    bound = {subject["name"] for one in wanted.of("RoleBinding") for subject in one["subjects"]}
    assert bound == {"rel-clinserve-head"}


def test_the_heads_account_may_change_numbers_of_its_own_clusters_pods_and_nothing_else() -> None:
    """KubeRay draws the cluster's name, so RBAC cannot name it. Not evaluated here: no CEL without an API server."""
    policy = rendered("aks").one("ValidatingAdmissionPolicy")["spec"]
    assert policy["failurePolicy"] == "Fail"
    assert "system:serviceaccount:models:rel-clinserve-head" in policy["matchConditions"][0]["expression"]
    said = " ".join(one["expression"] for one in policy["validations"])
    assert all(
        word in said for word in ("startsWith('rel-clinserve-')", "headGroupSpec ==", "template ==", "maxReplicas")
    )
    binding = rendered("aks").one("ValidatingAdmissionPolicyBinding")["spec"]
    assert binding["validationActions"] == ["Deny"]
    assert not rendered("aks", "v1.29.0").of("ValidatingAdmissionPolicy")


def test_a_vaults_classes_are_one_for_each_role_and_only_two_become_secrets() -> None:
    classes = {one["metadata"]["name"]: one["spec"] for one in whole("aks").of("SecretProviderClass")}
    assert set(classes) == {f"rel-clinserve-{role}" for role in ("gateway", "engine", "prepare", "head", "test")}
    made = {name: spec["secretObjects"][0]["data"] for name, spec in classes.items() if "secretObjects" in spec}
    assert {name: {one["key"] for one in data} for name, data in made.items()} == {
        "rel-clinserve-head": BY_KUBERAY,
        "rel-clinserve-test": {"demo-key"},
    }
    ours = story("aks")["azureWorkloadIdentity"]
    assert classes["rel-clinserve-engine"]["parameters"]["clientID"] == ours["engineClientId"] != ours["clientId"]
