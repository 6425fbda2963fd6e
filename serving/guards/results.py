"""What guards found, as Azure writes it: an object by category (azure-wire-format, 1.5 and part 6).

custom_blocklists                      {"filtered", "details": [{"filtered", "id"}]}
personally_identifiable_information    {"filtered", "detected", "sub_categories": [{"sub_category", ...}]}
hate, self_harm, sexual, violence      {"filtered", "severity": "safe|low|medium|high"}
jailbreak                              {"filtered", "detected"}
error                                  {"code": "content_filter_error", "message"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Any]

BLOCKLISTS = "custom_blocklists"
PII = "personally_identifiable_information"
SEVERITIES = ("safe", "low", "medium", "high")
UNCHECKED: Results = {"error": {"code": "content_filter_error", "message": "The contents are not filtered"}}
"""Azure's sign of a filter that did not run (azure-wire-format, 1.5)."""


def merged(one: Results, other: Results) -> Results:
    """Both as one: the worse of each, and every detail once."""
    if not one or not other:
        return one or other
    return {**one, **{category: _worse(one.get(category), found) for category, found in other.items()}}


def _worse(one: Any, other: Any) -> Any:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return other if one is None else one
    worse: dict[str, Any] = {**one, **other}
    for name in ("filtered", "detected"):
        if name in worse:
            worse[name] = bool(one.get(name)) or bool(other.get(name))
    if "severity" in worse:
        worse["severity"] = max(one.get("severity", "safe"), other.get("severity", "safe"), key=_rank)
    for name in ("details", "sub_categories"):
        if name in worse:
            worse[name] = _united(one.get(name), other.get(name))
    return worse


def _united(one: Any, other: Any) -> list[Any]:
    united = list(one) if isinstance(one, list) else []
    return united + [detail for detail in (other if isinstance(other, list) else []) if detail not in united]


def _rank(severity: object) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0
