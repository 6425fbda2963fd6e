"""The echo engine: deterministic answers, set first-token and inter-token times, planned failures.

It ships with the product so that everything but a model's quality can be tried on a laptop: clients, limits, load
tests, failure drills. It repeats the words of the last message; a token is a word. It is never a claim about vLLM.
"""

from serving.engines.echo.engine import EchoEngine, PlannedFailure

__all__ = ["EchoEngine", "PlannedFailure"]
