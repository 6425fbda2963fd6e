"""What an API server would refuse: Kubernetes' own schemas, strictly, and ours for the custom resources of the chart.

Ours cover the fields that the chart writes and are closed, so that a field that moved or is misspelt fails. They were
written from the API's documentation (KubeRay 1.7), not copied from its definitions. A kind that nobody knows fails.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate

from tests.helm.chart import Tree

TEXT: Tree = {"type": "string"}
NUMBER: Tree = {"type": "integer", "minimum": 0}
YES: Tree = {"type": "boolean"}
FREE: Tree = {"type": "object"}
TEXTS: Tree = {"type": "object", "additionalProperties": TEXT}


def closed(required: tuple[str, ...] = (), **properties: Any) -> Tree:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def several(item: Tree) -> Tree:
    return {"type": "array", "items": item}


def resource(spec: Tree) -> Tree:
    return closed(("metadata", "spec"), apiVersion=TEXT, kind=TEXT, metadata=FREE, spec=spec)


_GROUP = {
    "rayStartParams": TEXTS,
    "resources": TEXTS,
    "template": closed(("metadata", "spec"), metadata=FREE, spec=FREE),  # a pod: Kubernetes' own schema
}
RAY_SERVICE = resource(
    closed(
        ("serveConfigV2", "rayClusterConfig"),
        serveConfigV2=TEXT,
        upgradeStrategy=closed(("type",), type={"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]}),
        rayClusterDeletionDelaySeconds=NUMBER,
        excludeHeadPodFromServeSvc=YES,
        rayClusterConfig=closed(
            ("headGroupSpec",),
            rayVersion=TEXT,
            enableInTreeAutoscaling=YES,
            autoscalerOptions=closed(
                version={"enum": ["v1", "v2"]},
                idleTimeoutSeconds=NUMBER,
                upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
                imagePullPolicy=TEXT,
                securityContext=FREE,
                resources=FREE,
            ),
            authOptions=closed(("mode",), mode={"enum": ["token", "disabled"]}, secretName=TEXT),
            gcsFaultToleranceOptions=closed(
                redisAddress=TEXT,
                redisUsername=closed(value=TEXT, valueFrom=FREE),
                redisPassword=closed(value=TEXT, valueFrom=closed(secretKeyRef=closed(name=TEXT, key=TEXT))),
            ),
            headGroupSpec=closed(("template", "rayStartParams"), serviceType=TEXT, **_GROUP),
            workerGroupSpecs=several(
                closed(
                    ("groupName", "template", "rayStartParams", "minReplicas", "maxReplicas"),
                    groupName=TEXT,
                    replicas=NUMBER,
                    minReplicas=NUMBER,
                    maxReplicas=NUMBER,
                    idleTimeoutSeconds=NUMBER,
                    **_GROUP,
                )
            ),
        ),
    )
)
HTTP_ROUTE = resource(
    closed(
        parentRefs=several(closed(("name",), name=TEXT, namespace=TEXT, sectionName=TEXT)),
        hostnames=several(TEXT),
        rules=several(
            closed(
                matches=several(closed(path=closed(type={"enum": ["PathPrefix", "Exact"]}, value=TEXT))),
                timeouts=closed(request=TEXT, backendRequest=TEXT),
                backendRefs=several(closed(("name", "port"), name=TEXT, port=NUMBER)),
            )
        ),
    )
)
POD_MONITOR = resource(
    closed(
        ("selector", "podMetricsEndpoints"),
        jobLabel=TEXT,
        selector=closed(matchLabels=TEXTS),
        podMetricsEndpoints=several(closed(port=TEXT, path=TEXT, interval=TEXT)),
    )
)
_RULE = closed(
    ("expr",),
    record=TEXT,
    alert=TEXT,
    expr=TEXT,
    **{"for": TEXT},
    labels=TEXTS,
    annotations=TEXTS,
    keep_firing_for=TEXT,
)
PROMETHEUS_RULE = resource(
    closed(("groups",), groups=several(closed(("name", "rules"), name=TEXT, interval=TEXT, rules=several(_RULE))))
)
EXTERNAL_SECRET = resource(
    closed(
        ("secretStoreRef", "target", "data"),
        refreshInterval=TEXT,
        secretStoreRef=closed(("name",), kind={"enum": ["SecretStore", "ClusterSecretStore"]}, name=TEXT),
        target=closed(name=TEXT, creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]}),
        data=several(closed(("secretKey", "remoteRef"), secretKey=TEXT, remoteRef=closed(("key",), key=TEXT))),
    )
)
SECRET_PROVIDER_CLASS = resource(
    closed(
        ("provider", "parameters"),
        provider=TEXT,
        parameters=TEXTS,
        secretObjects=several(
            closed(secretName=TEXT, type=TEXT, data=several(closed(("objectName", "key"), objectName=TEXT, key=TEXT)))
        ),
    )
)
OWN = {
    ("ray.io/v1", "RayService"): RAY_SERVICE,
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): HTTP_ROUTE,
    ("monitoring.coreos.com/v1", "PodMonitor"): POD_MONITOR,
    ("azmonitoring.coreos.com/v1", "PodMonitor"): POD_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PROMETHEUS_RULE,
    ("external-secrets.io/v1", "ExternalSecret"): EXTERNAL_SECRET,
    ("secrets-store.csi.x-k8s.io/v1", "SecretProviderClass"): SECRET_PROVIDER_CLASS,
}


class Refused(Exception):
    """An API server would answer 422."""


def check(one: Tree, version: str = "1.36") -> None:
    """Raises Refused. version: of Kubernetes, without its patch."""
    try:
        schema = OWN.get((one["apiVersion"], one["kind"]))
        if schema is None:
            kubernetes_validate.validate(one, version, strict=True)
            return
        jsonschema.Draft202012Validator(schema).validate(one)
        for template in pod_templates(one):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]}
            kubernetes_validate.validate(pod, version, strict=True)
    except (
        jsonschema.ValidationError,
        kubernetes_validate.ValidationError,
        kubernetes_validate.SchemaNotFoundError,
    ) as error:
        name = f"{one['kind']} {one['metadata'].get('name')}"
        raise Refused(f"{name}: {getattr(error, 'message', error)}") from None


def pod_templates(one: Tree) -> list[Tree]:
    """Those inside a RayService, which no schema of Kubernetes looks into."""
    if one["kind"] != "RayService":
        return []
    cluster = one["spec"]["rayClusterConfig"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
