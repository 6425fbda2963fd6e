"""The HTML report: one file, nothing fetched, no script. Opens with the verdict; then pictures; then every figure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from loadtests import charts
from loadtests.measured import Measured
from loadtests.metrics import DEFINITIONS
from loadtests.results import Tree
from loadtests.scenario import Scenario

STYLE = (Path(__file__).with_name("report.css")).read_text()
DECIDES = {"objective": "met or missed", "doubt": "whose fault a miss is", "validity": "whether the run counts"}


def page(scenario: Scenario, measured: Measured, result: Tree) -> str:
    """The report of one run."""
    body = [
        _head(result, scenario.needs),
        _tiles(result),
        f'<section class="charts">{"".join(charts.of_run(scenario, measured))}</section>',
        _section("What was asked, and what was seen", _checks(result)),
        _section("Flows", _flows(result["flows"])),
        _section("How requests ended", _kinds(result["flows"])),
        _section("The client", _client(result)),
        _section("What ran", _ran(result)),
        _section("Words", _words()),
    ]
    return _document(f"{result['verdict']} {scenario.name}", body)


def capacity_page(scenario: Scenario, line: str, verdict: str, tried: Sequence[Mapping[str, Any]]) -> str:
    """The report of a search for the highest rate. tried: rate, verdict, and the run's `total` figures."""
    flow, ordered = scenario.flows[0], sorted(tried, key=lambda one: one["rate"])
    pictures = charts.against_rate(flow, [(one["rate"], one["figures"]) for one in ordered])
    rows = []
    for one in ordered:
        f, link = one["figures"], f'<a href="{one["folder"]}/report.html">run</a>'
        times = [_ms(f[name][share]) for name in ("ttft", "tpot") for share in ("p50", "p99")]
        rates = [_num(f["goodput_per_s"]), *times, _num(f["tokens_per_s"])]
        rows.append([f"{one['rate']:.3g}", one["verdict"], _share(f["attainment"]), *rates, link])
    head = ["rate, 1/s", "verdict", "good", "goodput, 1/s", "TTFT p50", "p99", "TPOT p50", "p99", "tokens/s", ""]
    question = f"Up to which rate does {scenario.name} meet {flow.objective}?"
    body = [
        f'<header class="{verdict.lower()}"><p class="verdict">{verdict}</p><h1>{escape(question)}</h1>'
        f"<p>{escape(line.split('  ', 2)[2])}</p></header>",
        f'<section class="charts">{"".join(pictures)}</section>',
        _section("Every rate that was tried", _table(head, rows)),
        _section("Words", _words()),
    ]
    return _document(f"capacity of {scenario.name}", body)


def _head(result: Tree, needs: str) -> str:
    server, line = result["plan"]["server"], result["line"].split("  ", 2)[2]
    notes = f'<p class="needs">Needs: {escape(needs)}</p>' if needs else ""
    return (
        f'<header class="{result["verdict"].lower()}"><p class="verdict">{result["verdict"]}</p>'
        f"<h1>{escape(result['question'])}</h1><p>{escape(line)}</p>{notes}"
        f'<p class="where">{escape(result["scenario"])} · {escape(server["model"])} at {escape(server["url"])} · '
        f"{result['begin']} · {result['measured_s']:g} s measured · commit {escape(result['machine']['commit'])}"
        "</p></header>"
    )


def _tiles(result: Tree) -> str:
    total = result["total"]
    tiles = [
        ("offered", f"{total['offered']:,}", f"{_num(total['offered_per_s'])} a second"),
        ("good", _share(total["attainment"]), "of what was offered"),
        ("goodput", _num(total["goodput_per_s"]), "good requests a second"),
        ("answer tokens", _num(total["tokens_per_s"]), "a second"),
        ("TTFT", _ms(total["ttft"]["p50"]), f"p99 {_ms(total['ttft']['p99'])}"),
        ("TPOT", _ms(total["tpot"]["p50"]), f"p99 {_ms(total['tpot']['p99'])}"),
        ("ITL", _ms(total["itl"]["p50"]), f"p99 {_ms(total['itl']['p99'])}"),
        ("client lag", _ms(total["lag"]["p50"]), f"p99 {_ms(total['lag']['p99'])}"),
    ]
    cells = "".join(f"<div><b>{value}</b><i>{name}</i><small>{note}</small></div>" for name, value, note in tiles)
    return f'<section class="tiles">{cells}</section>'


def _checks(result: Tree) -> str:
    rows = [
        [f'<span class="{"yes" if c["holds"] else "no"}">{"✓" if c["holds"] else "✗"}</span>', escape(c["subject"]),
         escape(c["what"]), escape(c["seen"]), DECIDES[c["kind"]]]
        for c in result["checks"]
    ]  # fmt: skip
    return _table(["", "of", "wanted", "seen", "decides on"], rows, text=4)


def _flows(flows: Sequence[Tree]) -> str:
    head = ["flow", "offered", "rate, 1/s", "good", "goodput, 1/s", "tokens in", "out", "TTFT p50", "p95", "p99",
            "ITL p50", "p99", "TPOT p50", "p99", "E2E p50", "p99", "norm. p50", "tries"]  # fmt: skip
    rows = []
    for f in flows:
        name = f"<b>{escape(f['flow'])}</b>" if not f["part"] else f'<span class="part">{escape(f["part"])}</span>'
        cells = [name, f"{f['offered']:,}", _num(f["offered_per_s"]), _share(f["attainment"]), _num(f["goodput_per_s"]),
                 _num(f["prompt_tokens"]), _num(f["answer_tokens"])]  # fmt: skip
        for time, shares in (("ttft", ("p50", "p95", "p99")), ("itl", ("p50", "p99")), ("tpot", ("p50", "p99")),
                             ("e2e", ("p50", "p99")), ("normalised", ("p50",))):  # fmt: skip
            cells += [_thin(f[time], share) for share in shares]
        rows.append([*cells, _num(f["attempts_per_request"])])
    notes = (
        '<p class="note">Times in milliseconds. Grey: fewer than ten samples lie above this percentile, '
        "so it is mostly chance."
    )
    frames = [f for f in flows if f["events_per_token"] is not None and f["events_per_token"] < 0.9]
    if frames:
        notes += " Events hold more than a token here, so ITL is the gap between events."
    stalled = sum(f["stalled"] for f in flows if not f["part"])
    return _table(head, rows) + notes + f" {stalled} answers had a gap above a second.</p>"


def _kinds(flows: Sequence[Tree]) -> str:
    whole = [f for f in flows if not f["part"]]
    kinds = list(dict.fromkeys(kind for f in whole for kind in f["kinds"]))
    rows = [
        [f"<b>{escape(f['flow'])}</b>", escape(f["tenant"]), *(f"{f['kinds'].get(k, 0):,}" for k in kinds)]
        for f in whole
    ]
    return _table(["flow", "key", *kinds], rows, text=2)


def _client(result: Tree) -> str:
    client = result["client"]
    lateness = (("late in sending (lag)", client["lag"]), ("late event loop", client["loop_lag"]))
    rows = [[name, *(_ms(times[share]) for share in ("p50", "p99", "max"))] for name, times in lateness]
    cpu = ", ".join(f"{share:.0%}" for share in client["cpu"]) or "–"
    said = f"{client['workers']} worker(s), CPU of each {cpu} of a core; {client['dropped']} not sent."
    said = f'<p class="note">{said}</p>'
    fair = result["fairness"]
    if len(fair["attainment"]) > 1:
        shares = ", ".join(f"{escape(tenant)} {_share(share)}" for tenant, share in fair["attainment"].items())
        said += f'<p class="note">Attainment by key: {shares}. Jain\'s index of fairness: {_num(fair["jain"])}.</p>'
    return _table(["", "p50", "p99", "max"], rows) + said


def _ran(result: Tree) -> str:
    told = json.dumps({"plan": result["plan"], "machine": result["machine"]}, indent=1)
    return f"<details><summary>plan and machine</summary><pre>{escape(told)}</pre></details>"


def _words() -> str:
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(text)}.</dd>" for name, text in DEFINITIONS.items()) + "</dl>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> str:
    """text: how many columns, from the left, hold words."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=t' if i < text or (i == 4 and text == 4) else ''}>{c}</{tag}>" for i, c in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells(head, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def _document(title: str, body: Sequence[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _thin(times: Tree, share: str) -> str:
    value = times[share]
    told = "–" if value is None else f"{1000 * value:,.3g}" if 1000 * value < 100 else f"{1000 * value:,.0f}"
    return f'<span class="thin">{told}</span>' if share in times["thin"] and share != "p50" else told


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{1000 * seconds:.1f} ms" if seconds < 0.1 else f"{1000 * seconds:,.0f} ms"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}" if share < 1 else "100%"


def _num(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
