"""What of the chart is made from the rest of the repository: its schema, the table in its README, rules and dashboards.

`make chart` runs this.

Helm can read no file outside the chart, so rules and dashboards are copies. The schema is closed at every level: values
of the chart are described by values.yaml and RULES, the product's configuration by its own settings.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from serving.settings import Settings

Schema = dict[str, Any]

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "clinserve"
COPIES = {
    "files/rules": "deploy/observability/rules/*.yml",
    "files/dashboards": "deploy/observability/dashboards/*.json",
}

TABLE = re.compile(r"(?<=<!-- values -->\n).*?(?=<!-- /values -->)", re.DOTALL)

FREE = {"nodeSelector", "affinity", "resources", "annotations", "labels", "commonLabels", "storeRef"}
"""Kubernetes' own words, which Kubernetes checks."""
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
QUANTITY = {"type": ["string", "number"], "pattern": "^[0-9.]+(Ki|Mi|Gi|Ti)?$"}
OBJECTS = {"type": "array", "items": {"type": "object"}}
SELECTOR: Schema = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,  # an empty one selects everything
    "properties": {
        "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
        "matchExpressions": OBJECTS | {"minItems": 1},
    },
}
BLOCK = {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"}
PEER: Schema = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "ipBlock": {
            "type": "object",
            "additionalProperties": False,
            "required": ["cidr"],
            "properties": {"cidr": BLOCK, "except": {"type": "array", "items": BLOCK}},
        },
        "namespaceSelector": SELECTOR,
        "podSelector": SELECTOR,
    },
}
PEERS = {"type": "array", "items": PEER}
"""Of a NetworkPolicy, where nothing means everything: an empty selector or a rule without `to` is refused."""
NAMESPACED = {"type": "array", "items": PEER | {"required": ["namespaceSelector"]}, "minItems": 1}
PORT: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["port"],
    "properties": {"port": {"type": "integer", "minimum": 1}, "protocol": {"enum": ["TCP", "UDP"]}},
}
EGRESS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["to", "ports"],
    "properties": {"to": PEERS | {"minItems": 1}, "ports": {"type": "array", "items": PORT, "minItems": 1}},
}
SECONDS = {"type": "integer", "minimum": 0}
GROUP: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "cpu", "memory"],
    "properties": {
        "name": NAME | {"not": {"const": "gateway"}},
        "gpus": {"type": "integer", "minimum": 0},
        "acceleratorType": {"type": "string"},
        "gpuResource": {"type": "string", "pattern": "^[a-z.]+/[a-z0-9.-]+$"},
        "cpu": {"type": "number", "exclusiveMinimum": 0},
        "memory": QUANTITY,
        "idleTimeoutSeconds": SECONDS,
        "minReplicas": {"type": "integer", "minimum": 0},
        "maxReplicas": {"type": "integer", "minimum": 0},
        "nodeSelector": {"type": "object"},
        "tolerations": OBJECTS,
        "affinity": {"type": "object"},
        "priorityClassName": {"type": "string"},
        "runtimeClassName": {"type": "string"},
        "env": OBJECTS,
        "volumes": OBJECTS,
        "volumeMounts": OBJECTS,
    },
    # A GPU that is idle for a minute costs less than weights that are loaded again.
    "if": {"required": ["gpus"], "properties": {"gpus": {"minimum": 1}}},
    "then": {"properties": {"idleTimeoutSeconds": {"minimum": 300}}},
}
RULES: dict[str, Schema] = {
    "fullnameOverride": {"type": "string", "pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$"},
    "rayVersion": {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+$"},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "gpuImage.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["IfNotPresent", "Always", "Never"]},
    "imagePullSecrets": {"type": "array", "items": {"type": "string"}},
    "weights.kind": {"enum": ["none", "claim", "ephemeral", "blob", "image"]},
    "weights.mountPath": {"type": "string", "pattern": "^/"},
    "files.mountPath": {"type": "string", "pattern": "^/"},
    "weights.blob.protocol": {"enum": ["fuse2", "nfs"]},
    "weights.blob.mountOptions": {"type": "array", "items": {"type": "string"}},
    "upgrade.strategy": {"enum": ["NewCluster", "None"]},
    "monitoring.apiGroup": {"enum": ["monitoring.coreos.com/v1", "azmonitoring.coreos.com/v1"]},
    "head.faultTolerance.redisAddress": {"type": "string", "pattern": "^(rediss?://[^@]+:[0-9]+)?$"},
    "httpRoute.hostnames": {"type": "array", "items": {"type": "string"}},
    "ingress.hostnames": {"type": "array", "items": {"type": "string"}},
    "loadTest.image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "loadTest.args": {"type": "array", "items": {"type": "string"}},
    "workerGroups": {"type": "array", "items": GROUP},
    "user": {"type": "integer", "minimum": 1},
    "networkPolicy.edge": PEERS,
    "networkPolicy.operator": NAMESPACED,
    "networkPolicy.prometheus": NAMESPACED,
    "networkPolicy.dns": PEERS | {"minItems": 1},
    "networkPolicy.gatewayEgress": {"type": "array", "items": EGRESS},
}
for _place in ("apiServer", "database", "redis", "rayRedis", "otlp", "weights"):
    RULES |= {f"networkPolicy.{_place}.to": PEERS, f"networkPolicy.{_place}.port": {"type": "integer", "minimum": 1}}
for _pods in ("head", "gatewayPods"):
    RULES |= {f"{_pods}.cpu": {"type": "number", "exclusiveMinimum": 0}, f"{_pods}.memory": QUANTITY}


def schema(values: Schema) -> Schema:
    """Of values.yaml."""
    product = Settings.model_json_schema()
    definitions = {name: _plain(one) for name, one in product["$defs"].items()}
    sections = {name: _plain(one) for name, one in product["properties"].items()}
    definitions["Server"]["properties"]["runtime"] = {"const": "ray"}
    definitions["Server"]["properties"]["host"]["not"] = {"enum": ["127.0.0.1", "localhost", "::1"]}
    definitions["Server"]["properties"]["state_dir"]["pattern"] = "^/"
    whole = _of(values, "")
    whole["properties"] |= {
        "global": {"type": "object"},
        "deployments": sections.pop("deployments"),
        "config": {"type": "object", "additionalProperties": False, "properties": sections},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "$defs": definitions}


def _of(value: Any, path: str) -> Schema:
    """By example: what stands in values.yaml."""
    if path in RULES:
        return RULES[path]
    if isinstance(value, dict):
        if path.rpartition(".")[2] in FREE:
            return {"type": "object"}
        inner = {
            name: _of(one, f"{path}.{name}".lstrip("."))
            for name, one in value.items()
            if path or name not in ("config", "deployments")
        }
        return {"type": "object", "additionalProperties": False, "properties": inner}
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return SECONDS
    return OBJECTS if isinstance(value, list) else {"type": "string"}


def _plain(node: Any) -> Any:
    """pydantic's schema without titles and defaults; unions told apart by `kind`, so that an error names one place."""
    if isinstance(node, list):
        return [_plain(one) for one in node]
    if not isinstance(node, dict):
        return node
    if "discriminator" in node:
        kinds = node["discriminator"]["mapping"]
        return {
            "type": "object",
            "required": ["kind"],
            "properties": {"kind": {"enum": list(kinds)}},
            "allOf": [
                {"if": {"required": ["kind"], "properties": {"kind": {"const": kind}}}, "then": {"$ref": reference}}
                for kind, reference in kinds.items()
            ],
        }
    kept = {
        name: one
        for name, one in node.items()
        if name not in ("default", "format") and not (name == "title" and isinstance(one, str))
    }
    if "(?!" in str(kept.get("pattern", "")):  # of decimals; Helm's regular expressions have no look-ahead
        kept["pattern"] = r"^[0-9]*\.?[0-9]*$"
    return {name: _plain(one) for name, one in kept.items()}


_LINE = re.compile(r"(?P<indent> *)(?P<name>[A-Za-z]+):(?P<value>( [^#]*)?)(# (?P<told>.*))?$")


def leaves(tree: Schema, path: str = "") -> dict[str, Any]:
    """The chart's values by their paths. Kubernetes' own words and the product's are values as they are."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        at = f"{path}.{name}".lstrip(".")
        if isinstance(value, dict) and value and name not in FREE and at != "config":
            found |= leaves(value, at)
        else:
            found[at] = value
    return found


def table() -> str:
    """Every value with its default and what values.yaml says above and beside it; sections likewise."""
    text = (CHART / "values.yaml").read_text()
    defaults = leaves(yaml.safe_load(text))
    rows, above, path = [], list[str](), list[str]()
    for line in text.partition("\n\n")[2].splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.strip("# "))
        elif match := _LINE.match(line):
            path = [*path[: len(match["indent"]) // 2], match["name"]]
            at, told = ".".join(path), " ".join(filter(None, [*above, match["told"]]))
            if at in defaults or (told and any(leaf.startswith(f"{at}.") for leaf in defaults)):
                rows.append(f"| `{at}` | {_shown(defaults.get(at))} | {told.replace('|', chr(92) + '|')} |")
            above = []
    return "\n".join(["| value | default | |", "|---|---|---|", *rows])


def _shown(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`" if 0 < len(text) < 60 else '`""`' if text == "" else "see values.yaml"


def write() -> None:
    readme = (CHART / "README.md").read_text()
    (CHART / "README.md").write_text(TABLE.sub(lambda _: table() + "\n", readme))
    for folder, pattern in COPIES.items():
        shutil.rmtree(CHART / folder, ignore_errors=True)
        (CHART / folder).mkdir(parents=True)
        for file in sorted(ROOT.glob(pattern)):
            shutil.copyfile(file, CHART / folder / file.name)
    made = schema(yaml.safe_load((CHART / "values.yaml").read_text()))
    (CHART / "values.schema.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(write())
