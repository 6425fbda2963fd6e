"""The dashboard of tenants. Each panel answers the question in its description."""

from __future__ import annotations

from panels import Json, Panel, Query, Variable, dashboard, rate

_D = 'deployment=~"$deployment"'
_T = 'tenant=~"$tenant"'


def tenants() -> Json:
    selected = f"{_T}, {_D}"
    limited = rate("clinserve_tenant_requests_total", f'{selected}, result="limited"', "tenant")
    return dashboard(
        "clinserve-tenants",
        "clinserve: Tenants",
        "Who uses it, who is held back, who has trouble. `other`: beyond telemetry.max_tenants.",
        variables=[
            Variable("tenant", "clinserve_tenant_requests_total", "tenant"),
            Variable("deployment", "clinserve_tenant_requests_total", "deployment"),
        ],
        rows=[
            [
                Panel(
                    "Tokens a second",
                    "Who uses how much.",
                    (
                        Query(
                            rate("clinserve_tenant_tokens_total", f'{selected}, type!="cached"', "tenant"), "{{tenant}}"
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Requests that were limited (429)",
                    "Who is held back: a client without back-off, or limits that no longer fit.",
                    (
                        Query(
                            f"{limited} / {rate('clinserve_tenant_requests_total', selected, 'tenant')}", "{{tenant}}"
                        ),
                    ),
                    unit="percentunit",
                    top=1.0,
                    limit=0.2,
                ),
            ],
            [
                Panel(
                    "Requests that failed or were refused",
                    "failed is ours to mend; refused is the tenant's own program.",
                    (
                        Query(
                            rate(
                                "clinserve_tenant_requests_total",
                                f'{selected}, result=~"failed|refused"',
                                "tenant, result",
                            ),
                            "{{tenant}} {{result}}",
                        ),
                    ),
                    unit="reqps",
                ),
                Panel(
                    "Most tokens in the last 24 hours",
                    "Prompt and answer.",
                    (
                        Query(
                            "topk(15, sum by (tenant) (increase(clinserve_tenant_tokens_total"
                            f'{{{selected}, type!="cached"}}[24h])))',
                            "{{tenant}}",
                        ),
                    ),
                    kind="bargauge",
                ),
            ],
        ],
    )
