"""KubeRay's part, on this machine: a Ray that is told of one Serve config after another, files named on its input.

What the operator sends to Ray's dashboard goes to the same controller here. `served` on standard output: it runs.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import yaml

from serving.deployments.cluster import LocalCluster


def main() -> None:
    first = next(sys.stdin).strip()
    options = yaml.safe_load(Path(first).read_text())["http_options"]
    cluster = LocalCluster(Path(first).parent, **options, max_stream=3600, connections=0)
    try:
        cluster.start_ray(num_cpus=4)
        cluster.start_serve()
        print(cluster.logs, flush=True)
        for file in itertools.chain([first], sys.stdin):
            deploy(cluster, yaml.safe_load(Path(file.strip()).read_text()))
            print("served", flush=True)
    finally:
        cluster.stop()


def deploy(cluster: LocalCluster, config: dict[str, Any]) -> None:
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(config)
    _get_global_client().deploy_apps(schema)
    for _ in cluster.watch([one.name for one in schema.applications], timeout=240):
        pass


if __name__ == "__main__":
    main()
