"""The cost dashboard. Each panel answers the question in its description."""

from __future__ import annotations

from panels import RATE, Json, Panel, Query, Variable, dashboard, rate

_D = 'deployment=~"$deployment"'
_T = 'tenant=~"$tenant"'


def cost() -> Json:
    selected = f"{_T}, {_D}"
    return dashboard(
        "clinserve-cost",
        "clinserve: Cost",
        "What it costs by the configured prices, and for whom. From scrapes: bills come from `clinserve usage`.",
        variables=[
            Variable("tenant", "clinserve_cost_total", "tenant"),
            Variable("deployment", "clinserve_cost_total", "deployment"),
        ],
        rows=[
            [
                Panel(
                    "Last 24 hours",
                    "In the currency of the prices.",
                    (Query(f"sum(increase(clinserve_cost_total{{{selected}}}[24h]))", "cost"),),
                    kind="stat",
                    width=8,
                    height=4,
                ),
                Panel(
                    "A month at the rate of the last 24 hours",
                    "30 days like this one.",
                    (Query(f"30 * sum(increase(clinserve_cost_total{{{selected}}}[24h]))", "a month"),),
                    kind="stat",
                    width=8,
                    height=4,
                ),
                Panel(
                    "Of a thousand answer tokens",
                    "The prompts included: long prompts make answers dear.",
                    (
                        Query(
                            f"1000 * sum(increase(clinserve_cost_total{{{selected}}}[24h])) / "
                            f'sum(increase(clinserve_tenant_tokens_total{{{selected}, type="completion"}}[24h]))',
                            "a thousand tokens",
                        ),
                    ),
                    kind="stat",
                    width=8,
                    height=4,
                ),
            ],
            [
                Panel(
                    "An hour, by tenant",
                    "Who spends.",
                    (
                        Query(
                            f"sum by (tenant) (rate(clinserve_cost_total{{{selected}}}[{RATE}])) * 3600", "{{tenant}}"
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "An hour, by deployment",
                    "On which model.",
                    (
                        Query(
                            f"sum by (deployment) (rate(clinserve_cost_total{{{selected}}}[{RATE}])) * 3600",
                            "{{deployment}}",
                        ),
                    ),
                    stacked=True,
                ),
            ],
            [
                Panel(
                    "Prompt tokens that the KV cache held",
                    "They cost less. Prompts that begin alike save the most.",
                    (
                        Query(
                            rate("clinserve_tokens_total", f'{_D}, type="cached"', "deployment")
                            + " / "
                            + rate("clinserve_tokens_total", f'{_D}, type="prompt"', "deployment"),
                            "{{deployment}}",
                        ),
                    ),
                    unit="percentunit",
                    top=1.0,
                ),
                Panel(
                    "Dearest tenants in the last 24 hours",
                    "The most first.",
                    (
                        Query(
                            f"topk(15, sum by (tenant) (increase(clinserve_cost_total{{{selected}}}[24h])))",
                            "{{tenant}}",
                        ),
                    ),
                    kind="bargauge",
                ),
            ],
        ],
    )
