"""The fleet dashboard: how many replicas there are, how many are wanted, and why. Each panel answers its question."""

from __future__ import annotations

from panels import Json, Panel, Query, Variable, dashboard

_D = 'deployment=~"$deployment"'


def _replicas(state: str) -> Query:
    # max: each gateway tells the same of the whole fleet.
    return Query(
        f'max by (deployment) (clinserve_scaling_replicas{{{_D}, state="{state}"}})', f"{{{{deployment}}}} {state}"
    )


def fleet() -> Json:
    return dashboard(
        "clinserve-fleet",
        "clinserve: Fleet",
        "Does the number of replicas follow the load? If not: is it a bound, the budget, or a start that takes long?",
        variables=[Variable("deployment", "clinserve_scaling_replicas", "deployment")],
        rows=[
            [
                Panel(
                    "Replicas that run, and that are to be",
                    "Running below target: replicas start, or find no place. A step up and down again: it flaps.",
                    (_replicas("running"), _replicas("target")),
                ),
                Panel(
                    "Replicas that the load asks for",
                    "Above max for long: raise scaling.max, or the budget. docs/scaling.md",
                    (_replicas("wanted"), _replicas("max"), _replicas("min")),
                ),
            ],
            [
                Panel(
                    "Changes in an hour, by reason",
                    "Why the number of replicas changed; `clinserve status` has the sentence to each.",
                    (
                        Query(
                            f"max by (deployment, reason) (delta(clinserve_scaling_changes{{{_D}}}[1h]))",
                            "{{deployment}} {{reason}}",
                        ),
                    ),
                ),
                Panel(
                    "A goal is missed",
                    "1: the slo section's ttft_p95 or tpot_p95 is missed, and more replicas would help.",
                    (Query(f"max by (deployment) (clinserve_scaling_goal_missed{{{_D}}})", "{{deployment}}"),),
                    top=1.0,
                ),
            ],
        ],
    )
