"""A small stand-in for a Kubernetes API server, enough for real Helm: discovery, objects, watch, strict schemas.

It is not Kubernetes: no admission, defaults, scheduling, RBAC, finalizers or field ownership, and nobody runs anything.
Jobs are complete and pods succeed as soon as they are made, so hooks end; `fail` names those that do not.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.helm.chart import Tree
from tests.helm.schemas import Refused, check

KINDS = {  # by group and version: kind, plural, whether it has a namespace
    "v1": [("ConfigMap", "configmaps", True), ("Secret", "secrets", True), ("Pod", "pods", True),
           ("Service", "services", True), ("ServiceAccount", "serviceaccounts", True),
           ("PersistentVolumeClaim", "persistentvolumeclaims", True),
           ("PersistentVolume", "persistentvolumes", False), ("Namespace", "namespaces", False)],
    "apps/v1": [("Deployment", "deployments", True)],
    "batch/v1": [("Job", "jobs", True)],
    "policy/v1": [("PodDisruptionBudget", "poddisruptionbudgets", True)],
    "networking.k8s.io/v1": [("NetworkPolicy", "networkpolicies", True), ("Ingress", "ingresses", True)],
    "rbac.authorization.k8s.io/v1": [("Role", "roles", True), ("RoleBinding", "rolebindings", True)],
    "admissionregistration.k8s.io/v1": [
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", False),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False),
    ],
    "ray.io/v1": [("RayService", "rayservices", True)],
    "gateway.networking.k8s.io/v1": [("HTTPRoute", "httproutes", True)],
    "monitoring.coreos.com/v1": [("PodMonitor", "podmonitors", True), ("PrometheusRule", "prometheusrules", True)],
    "azmonitoring.coreos.com/v1": [("PodMonitor", "podmonitors", True)],
    "external-secrets.io/v1": [("ExternalSecret", "externalsecrets", True)],
    "secrets-store.csi.x-k8s.io/v1": [("SecretProviderClass", "secretproviderclasses", True)],
}  # fmt: skip
Place = tuple[str, str, str, str]
"""Group and version, plural, namespace, name."""


@dataclass
class Cluster:
    """What it holds, and what has been asked of it, in order."""

    objects: dict[Place, Tree] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    fail: set[str] = field(default_factory=set)
    versions: int = 0
    url: str = ""

    @property
    def kubeconfig(self) -> str:
        return yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": self.url}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "models"}}],
            "users": [{"name": "x", "user": {}}],
        })  # fmt: skip

    def of(self, kind: str) -> dict[str, Tree]:
        return {place[3]: one for place, one in self.objects.items() if one["kind"] == kind}

    def keep(self, place: Place, one: Tree) -> Tree:
        """Raises Refused."""
        check({key: value for key, value in one.items() if key != "status"})
        self.versions += 1
        old = self.objects.get(place)
        if old is None:
            self.made.append(f"{one['kind']}/{place[3]}")
        metadata = one.setdefault("metadata", {})
        metadata |= {"namespace": place[2], "resourceVersion": str(self.versions), "uid": f"uid-{self.versions}"}
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
        one["status"] = self._status(one["kind"], place[3])
        self.objects[place] = one
        return one

    def _status(self, kind: str, name: str) -> Tree:
        """As its controller would set it."""
        failed = name in self.fail
        if kind == "Job":
            return {"conditions": [{"type": "Failed" if failed else "Complete", "status": "True"}]} | {
                "failed" if failed else "succeeded": 1
            }
        if kind == "Pod":
            return {"phase": "Failed" if failed else "Succeeded"}
        return {}


@contextmanager
def api_server() -> Iterator[Cluster]:
    cluster = Cluster()

    class Handler(_Handler):
        held = cluster

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    held: Cluster
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.strip("/")
        if found := discovery(path):
            return self._answer(200, found)
        place, query = self._place()
        if place[3]:
            one = self.held.objects.get(place)
            return self._answer(200, one) if one else self._status(404, "NotFound", f"{place[1]} {place[3]} not found")
        items = [one for at, one in self.held.objects.items() if at[:3] == place[:3] and self._selected(one, query)]
        if query.get("watch"):
            return self._watch(items)
        kind = next(kind for kind, plural, _ in KINDS[place[0]] if plural == place[1])
        listed = {
            "apiVersion": place[0],
            "kind": f"{kind}List",
            "metadata": {"resourceVersion": str(self.held.versions)},
            "items": items,
        }
        return self._answer(200, listed)

    def do_POST(self) -> None:
        place, query = self._place()
        one = self._body()
        self._keep((*place[:3], one["metadata"]["name"]), one, query, 201)

    def do_PUT(self) -> None:
        place, query = self._place()
        self._keep(place, self._body(), query, 200)

    def do_PATCH(self) -> None:
        """Server-side apply takes the whole object; a merge patch is laid over what is there."""
        place, query = self._place()
        body, old = self._body(), self.held.objects.get(place)
        if "apply-patch" not in self.headers.get("content-type", "") and old is not None:
            body = laid_over(old, body)
        self._keep(place, body, query, 200 if old else 201)

    def do_DELETE(self) -> None:
        place, _ = self._place()
        self._body()
        gone = self.held.objects.pop(place, None)
        self._answer(200, gone) if gone else self._status(404, "NotFound", f"{place[3]} not found")

    def _keep(self, place: Place, one: Tree, query: Tree, status: int) -> None:
        try:
            if query.get("dryRun"):
                check({key: value for key, value in one.items() if key != "status"})
                return self._answer(status, one)
            self._answer(status, self.held.keep(place, one))
        except Refused as refused:
            self._status(422, "Invalid", str(refused))

    def _selected(self, one: Tree, query: Tree) -> bool:
        wanted = [
            word.partition("=")[2]
            for word in query.get("fieldSelector", "").split(",")
            if word.startswith("metadata.name")
        ]
        return not wanted or one["metadata"]["name"] in wanted

    def _watch(self, items: list[Tree]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        mark = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {
                "resourceVersion": str(self.held.versions),
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        }
        events = [{"type": "ADDED", "object": one} for one in items]
        if items:
            mark |= {"kind": items[0]["kind"], "apiVersion": items[0]["apiVersion"]}
        for event in (*events, {"type": "BOOKMARK", "object": mark}):
            self.wfile.write(json.dumps(event).encode() + b"\n")
        self.wfile.flush()
        time.sleep(0.3)  # then it ends, and who still watches asks again
        self.close_connection = True

    def _place(self) -> tuple[Place, Tree]:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        words = address.path.strip("/").split("/")
        version, rest = (words[1], words[2:]) if words[0] == "api" else ("/".join(words[1:3]), words[3:])
        namespace = ""
        if rest and rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        return (version, rest[0], namespace, rest[1] if len(rest) > 1 else ""), query

    def _body(self) -> Tree:
        text = self.rfile.read(int(self.headers.get("content-length") or 0))
        return dict(yaml.safe_load(text) or {})

    def _status(self, code: int, reason: str, message: str) -> None:
        self._answer(
            code,
            {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": reason,
                "message": message,
                "code": code,
            },
        )

    def _answer(self, code: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


def laid_over(old: Tree, new: Tree) -> Tree:
    """A merge patch."""
    merged = copy.deepcopy(old)
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = (
                laid_over(merged[key], value)
                if isinstance(value, dict) and isinstance(merged.get(key), dict)
                else value
            )
    return merged


def discovery(path: str) -> Tree | None:
    """What a client asks before it asks for anything."""
    if path == "version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "apis":
        groups = [
            {
                "name": one.split("/")[0],
                "versions": [{"groupVersion": one, "version": "v1"}],
                "preferredVersion": {"groupVersion": one, "version": "v1"},
            }
            for one in KINDS
            if "/" in one
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    version = path.removeprefix("apis/").removeprefix("api/")
    if version in KINDS and path.startswith("api"):
        verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
        listed = [
            {"name": plural, "singularName": kind.lower(), "namespaced": inside, "kind": kind, "verbs": verbs}
            for kind, plural, inside in KINDS[version]
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}
    if path == "openapi/v3":
        return {"paths": {_root(one): {"serverRelativeURL": f"/openapi/v3/{_root(one)}"} for one in KINDS}}
    if path.startswith("openapi/v3/"):
        return openapi(path.removeprefix("openapi/v3/").removeprefix("apis/").removeprefix("api/"))
    return None


def _root(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


def openapi(version: str) -> Tree:
    """Says of each kind that fieldValidation is known; then Helm leaves validation to the server."""
    group, _, number = version.rpartition("/")
    paths = {}
    for kind, plural, _ in KINDS[version]:
        told = {
            "parameters": [{"name": "fieldValidation", "in": "query"}],
            "x-kubernetes-group-version-kind": {"group": group, "version": number, "kind": kind},
        }
        paths[f"/{_root(version)}/namespaces/{{namespace}}/{plural}/{{name}}"] = {"patch": told}
    return {"openapi": "3.0.0", "info": {"title": "x", "version": "x"}, "paths": paths}
