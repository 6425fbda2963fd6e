"""Ray Serve LLM as a peer: `ray.serve.llm.build_openai_app` and nothing of ours, until Ctrl-C.

    python -m loadtests.overhead.ray_llm --port 8001 --llm '{"model_loading_config": {...}, ...}'

Which of its two ways it takes is Ray's environment variable RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING. Where Ray looks for
an engine other than vLLM is RAYLLM_VLLM_ENGINE_CLS. Both are set before this starts; peers.py says to what.
"""

import argparse
import json
import os
import signal

LOGICAL_CPUS = 8
"""What Ray may hand out: it counts reservations, and two cores would not hold its default ones."""
OBJECT_STORE_BYTES = 100 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.overhead.ray_llm", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--llm", type=json.loads, required=True, help="LLMConfig, as JSON")
    options = parser.parse_args()

    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, LOGICAL_CPUS),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        serve.start(
            http_options={"host": "127.0.0.1", "port": options.port},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        serve.run(build_openai_app({"llm_configs": [LLMConfig(**options.llm)]}), name="llm", route_prefix="/")
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
