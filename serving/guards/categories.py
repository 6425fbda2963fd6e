"""How moderation services are asked, and what their answers mean in Azure's categories and severities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from serving.guards.guard import Mode, Verdict
from serving.guards.results import SEVERITIES

Severity = Literal["safe", "low", "medium", "high"]
HARMS = ("hate", "self_harm", "sexual", "violence")
DEFAULT_THRESHOLDS: Mapping[str, Severity] = dict.fromkeys(HARMS, "medium")
"""Azure's: medium and above is blocked (azure-wire-format, part 6)."""

# OpenAI's categories, https://platform.openai.com/docs/guides/moderation. Some own servers know `jailbreak` too.
_OPENAI = {
    "hate": "hate",
    "harassment": "hate",
    "self-harm": "self_harm",
    "sexual": "sexual",
    "violence": "violence",
    "illicit/violent": "violence",
    "jailbreak": "jailbreak",
}
_SCORES = ((0.8, "high"), (0.5, "medium"), (0.2, "low"))
# https://learn.microsoft.com/azure/ai-services/content-safety/concepts/harm-categories: 0 to 7, or 0, 2, 4, 6.
_CONTENT_SAFETY = {"Hate": "hate", "SelfHarm": "self_harm", "Sexual": "sexual", "Violence": "violence"}


class Analysis(Protocol):
    """One service's language. longest: characters of a text that it takes."""

    @property
    def longest(self) -> int: ...

    def question(self, text: str) -> dict[str, Any]: ...

    def severities(self, answer: dict[str, Any]) -> dict[str, str]:
        """By Azure's category, of those that the service spoke of. Raises ValueError, LookupError, TypeError or
        AttributeError for an answer that is none.
        """
        ...

    def verdict(self, severities: Mapping[str, str], mode: Mode) -> Verdict: ...


class _Thresholds:
    """thresholds: by category, the severity from which a text is blocked; a category that is not named is only
    annotated.
    """

    def __init__(self, thresholds: Mapping[str, Severity] = DEFAULT_THRESHOLDS) -> None:
        self._thresholds = thresholds

    def verdict(self, severities: Mapping[str, str], mode: Mode) -> Verdict:
        results: dict[str, Any] = {}
        for category in (*HARMS, *(name for name in severities if name not in HARMS)):
            severity = severities.get(category, "safe")
            filtered = mode == "block" and self._reaches(category, severity)
            found: dict[str, Any] = {"filtered": filtered}
            results[category] = found | (
                {"severity": severity} if category in HARMS else {"detected": severity != "safe"}
            )
        if any(result["filtered"] for result in results.values()):
            return Verdict(results, "blocked")
        return Verdict(results, "annotated" if any(s != "safe" for s in severities.values()) else "passed")

    def _reaches(self, category: str, severity: str) -> bool:
        threshold = self._thresholds.get(category)
        return threshold is not None and severity != "safe" and _rank(severity) >= _rank(threshold)


class OpenAIModeration(_Thresholds):
    """An Analysis in the shape of OpenAI's /v1/moderations. model: the name to ask for; empty, the service's own."""

    longest = 10_000

    def __init__(self, thresholds: Mapping[str, Severity] = DEFAULT_THRESHOLDS, *, model: str = "") -> None:
        super().__init__(thresholds)
        self._model = model

    def question(self, text: str) -> dict[str, Any]:
        return {"input": text, **({"model": self._model} if self._model else {})}

    def severities(self, answer: dict[str, Any]) -> dict[str, str]:
        """What is flagged is at least medium; else the score tells."""
        found: dict[str, str] = {}
        for result in answer["results"]:
            scores = result.get("category_scores") or {}
            for name, flagged in result["categories"].items():
                category = _OPENAI.get(name) or _OPENAI.get(name.split("/")[0])
                if category is None:
                    continue
                score = float(scores.get(name) or 0.0)
                severity = next((severity for least, severity in _SCORES if score >= least), "safe")
                if flagged:
                    severity = max(severity, "medium", key=_rank)
                found[category] = max(severity, found.get(category, "safe"), key=_rank)
        if not answer["results"]:
            raise ValueError("no results")
        return found


class ContentSafety(_Thresholds):
    """An Analysis by Azure AI Content Safety, `text:analyze`."""

    longest = 10_000

    def question(self, text: str) -> dict[str, Any]:
        return {"text": text, "categories": list(_CONTENT_SAFETY), "outputType": "FourSeverityLevels"}

    def severities(self, answer: dict[str, Any]) -> dict[str, str]:
        found = {}
        for one in answer["categoriesAnalysis"]:
            if category := _CONTENT_SAFETY.get(one["category"]):
                found[category] = SEVERITIES[min(max(int(one.get("severity") or 0), 0), 7) // 2]
        return found


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity)
