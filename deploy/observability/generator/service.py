"""The service dashboard: is it well, where not, why. Each panel answers the question in its description."""

from __future__ import annotations

from panels import RATE, Json, Panel, Query, Variable, dashboard, quantile, quantiles, rate

_D = 'deployment=~"$deployment"'


def service() -> Json:
    return dashboard(
        "clinserve-service",
        "clinserve: Service",
        "Is it well? If not: the gateway or an engine, and since when?",
        variables=[Variable("deployment", "clinserve_requests_total", "deployment")],
        rows=[
            [
                Panel(
                    "Answered without a failure, last hour",
                    "The availability promise: 99.5 %. Refusals and limits are not failures.",
                    (Query(f"1 - max(clinserve:failed:ratio_rate1h{{{_D}}})", "worst deployment"),),
                    kind="stat",
                    unit="percentunit",
                    width=6,
                    height=4,
                    steps=((0.0, "red"), (0.995, "green")),
                ),
                Panel(
                    "First token within 2.5 s, last hour",
                    "The first-token promise: 95 % of the streams.",
                    (Query(f"1 - max(clinserve:late:ratio_rate1h{{{_D}}})", "worst deployment"),),
                    kind="stat",
                    unit="percentunit",
                    width=6,
                    height=4,
                    steps=((0.0, "red"), (0.95, "green")),
                ),
                Panel(
                    "Requests now",
                    "How many are being answered.",
                    (Query(f"sum(clinserve_requests_in_flight{{{_D}}})", "in flight"),),
                    kind="stat",
                    width=6,
                    height=4,
                    options={"graphMode": "area"},
                ),
                Panel(
                    "Answer tokens a second",
                    "What the service delivers.",
                    (Query(f'sum(rate(clinserve_tokens_total{{{_D}, type="completion"}}[{RATE}]))', "tokens/s"),),
                    kind="stat",
                    width=6,
                    height=4,
                    options={"graphMode": "area"},
                ),
            ],
            [
                Panel(
                    "Requests by result",
                    "How much is asked, and how it ends. limited: 429. refused: by its own fault. left: the client.",
                    (Query(rate("clinserve_requests_total", _D, "result"), "{{result}}"),),
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "Failures by outcome",
                    "What is away. The outcomes are the error codes in the README.",
                    (
                        Query(
                            rate("clinserve_requests_total", f'{_D}, result="failed"', "deployment, outcome"),
                            "{{deployment}} {{outcome}}",
                        ),
                    ),
                    unit="reqps",
                ),
            ],
            [
                Panel(
                    "Time to first token",
                    "What a person waits for. A dot is a traced request: it leads to its trace.",
                    quantiles("gen_ai_server_time_to_first_token_seconds", _D),
                    unit="s",
                    limit=2.5,
                ),
                Panel(
                    "Time per token after the first",
                    "How fast text runs. 0.1 s a token is about as fast as one reads.",
                    quantiles("gen_ai_server_time_per_output_token_seconds", _D),
                    unit="s",
                    limit=0.1,
                ),
            ],
            [
                Panel(
                    "Where the time goes",
                    "Mean of each stage. identify, read, spill, reserve: the gateway. open: until the engine's first "
                    "bytes. forward: its answer.",
                    (
                        Query(
                            f"{rate('clinserve_stage_seconds_sum', _D, 'stage')} / on () group_left () "
                            f'sum(rate(clinserve_stage_seconds_count{{{_D}, stage="reserve"}}[{RATE}]))',
                            "{{stage}}",
                        ),
                    ),
                    unit="s",
                    stacked=True,
                ),
                Panel(
                    "The gateway itself",
                    "Its share before an engine is asked, and how late its event loop is. Much: more gateway replicas.",
                    (
                        Query(quantile(0.99, "clinserve_stage_seconds", f'{_D}, stage="reserve"'), "reserve p99"),
                        Query(quantile(0.99, "clinserve_stage_seconds", f'{_D}, stage="identify"'), "identify p99"),
                        Query(quantile(0.99, "clinserve_event_loop_lag_seconds", ""), "event loop late p99"),
                    ),
                    unit="s",
                ),
            ],
            [
                Panel(
                    "Budget burnt, times the sustainable rate",
                    "1 uses up the month's budget in a month. Pages come at 14.4 and 6.",
                    (
                        Query(
                            f"max by (deployment) (clinserve:failed:ratio_rate1h{{{_D}}}) / 0.005",
                            "{{deployment}} fails",
                        ),
                        Query(
                            f"max by (deployment) (clinserve:late:ratio_rate1h{{{_D}}}) / 0.05", "{{deployment}} late"
                        ),
                    ),
                    limit=6,
                    width=8,
                ),
                Panel(
                    "Records that wait to be written",
                    "Usage and audit. A line that grows: the database is away.",
                    (Query("sum by (instance, book) (clinserve_backlog_records)", "{{instance}} {{book}}"),),
                    width=8,
                ),
                Panel(
                    "Requests that went elsewhere, or had to be made safe",
                    "Spill-over to another deployment, and what guards decided.",
                    (
                        Query(rate("clinserve_spills_total", _D, "deployment, to"), "{{deployment}} to {{to}}"),
                        Query(
                            rate("clinserve_guard_decisions_total", f'{_D}, decision!="passed"', "guard, decision"),
                            "{{guard}} {{decision}}",
                        ),
                    ),
                    unit="reqps",
                    width=8,
                ),
            ],
        ],
    )
