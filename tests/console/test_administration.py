"""Keys, deployments, usage and limits in the console."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
from playwright.sync_api import Locator, expect

from serving.tenants.ledger import UsageRecord
from serving.tenants.paging import PageRequest
from tests.console.conftest import Console

OpenConsole = Callable[..., Console]


def new_key(here: Console, name: str) -> str:
    """Create a key on the page; what was shown, once."""
    page = here.page
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create").click()
    return shown_once(here)


def shown_once(here: Console) -> str:
    box = here.page.get_by_role("dialog", name="Your new key")
    text = box.locator(".secret").inner_text()
    box.get_by_role("button", name="I have put it away").click()
    expect(box).to_have_count(0)
    assert text not in here.page.content()
    return text


def row(here: Console, text: str) -> Locator:
    return here.page.get_by_role("row").filter(has_text=text)


def answers(here: Console, key: str) -> int:
    return httpx.get(f"{here.url}/v1/models", headers={"api-key": key}).status_code


def test_a_key_is_created_rotated_and_revoked(console: OpenConsole) -> None:
    here = console(keys={"cache": 0})
    here.sign_in("ward_admin")
    here.open("Keys")
    first = new_key(here, "discharge letters")
    assert answers(here, first) == 200
    row(here, first[:12]).get_by_role("button", name=re.compile("Rotate")).click()
    here.page.get_by_label("The old key goes on for").select_option("1 hour")
    here.page.get_by_role("button", name="Rotate", exact=True).click()
    second = shown_once(here)
    assert (answers(here, first), answers(here, second)) == (200, 200)
    expect(here.page.get_by_role("row").filter(has_text="discharge letters")).to_have_count(2)
    row(here, second[:12]).get_by_role("button", name=re.compile("Revoke")).click()
    here.page.get_by_role("button", name="Revoke", exact=True).click()
    expect(row(here, second[:12])).to_have_count(0)
    assert answers(here, second) == 401
    here.page.get_by_label("Show ended keys").check()
    expect(row(here, second[:12])).to_contain_text("revoked")


def test_a_new_key_has_the_bounds_that_were_chosen(console: OpenConsole) -> None:
    here = console()
    here.sign_in("root")
    here.open("Keys")
    page = here.page
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Tenant", exact=True).select_option("lab")
    page.get_by_label("Name").fill("analyser")
    page.get_by_label("read usage and audit log").check()
    page.get_by_label("Expires").select_option("in 7 days")
    page.get_by_label("Only these deployments").fill("echo")
    page.get_by_label("Only from these networks").fill("10.0.0.0/8")
    page.get_by_role("button", name="Create").click()
    shown_once(here)
    with here.office() as office:
        keys = office.administration.list_keys(office.actor, "lab", PageRequest(100)).items
    (key,) = [key for key in keys if key.name == "analyser"]
    assert key.roles == {"inference", "auditor"} and key.deployments == {"echo"}
    assert [str(network) for network in key.networks or ()] == ["10.0.0.0/8"]
    assert key.expires_at and timedelta(days=6.9) < key.expires_at - datetime.now(UTC) < timedelta(days=7.1)


def test_what_the_server_refuses_is_told_in_the_dialog(console: OpenConsole) -> None:
    here = console()
    here.sign_in("ward_admin")
    here.open("Keys")
    new_key(here, "twice")
    new_key(here, "twice")
    page = here.page
    page.get_by_role("button", name="New key").click()
    expect(page.get_by_label("tenants and limits")).to_have_count(0)  # only system's administrators grant it
    page.get_by_label("Name").fill("twice")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("2 live keys")


def test_deployments_show_their_health_and_one_that_is_away_says_so(console: OpenConsole) -> None:
    away = {"kind": "http", "url": "http://127.0.0.1:9/v1"}
    notice = {"notice": "Not for clinical use."}
    here = console(
        deployments=[
            {"name": "notes", "engine": {"kind": "echo"}, "model": notice},
            {"name": "letters", "engine": away},
        ]
    )
    here.sign_in("ward_user")
    here.open("Deployments")
    expect(row(here, "notes")).to_contain_text("Ready")
    expect(row(here, "notes")).to_contain_text("Not for clinical use.")
    expect(row(here, "letters")).to_contain_text("Away")
    row(here, "letters").get_by_role("button", name="Try").click()
    expect(here.page.get_by_label("Deployment")).to_have_value("letters")
    expect(here.ask("hello").get_by_role("alert")).to_contain_text("engine_unavailable")


def usage_of(here: Console) -> None:
    """Two days of two deployments of ward, and one request of another tenant."""
    now = datetime.now(UTC)
    one = UsageRecord(
        id="req_1", started_at=now, tenant="ward", key_id="k1", key_name="portal", deployment="notes", revision="",
        operation="chat", stream=True, outcome="ok", prompt_tokens=1000, cached_tokens=0, completion_tokens=500,
        cost_micros=1_500_000, first_token=0.1, duration=1.0,
    )  # fmt: skip
    with here.office() as office:
        office.usage_store.add(
            [
                one,
                replace(one, id="req_2", deployment="letters", prompt_tokens=100),
                replace(one, id="req_3", started_at=now - timedelta(days=2)),
                replace(one, id="req_4", tenant="lab", deployment="images"),
            ]
        )


def test_usage_is_drawn_by_day_and_told_in_a_table_and_of_the_own_tenant_only(console: OpenConsole) -> None:
    here = console()
    usage_of(here)
    here.sign_in("ward_auditor")
    here.open("Usage")
    chart = here.page.get_by_role("img", name=re.compile("3,600 tokens from"))
    expect(chart.locator("rect")).to_have_count(3)
    table = here.page.get_by_role("table", name="Usage by deployment")
    assert table.get_by_role("row").all_inner_texts()[1:] == [
        "notes\t2\t2,000\t0\t1,000\t3.00",
        "letters\t1\t100\t0\t500\t1.50",
    ]
    here.page.get_by_label("Measure").select_option("cost")
    expect(here.page.get_by_role("img", name=re.compile(r"^4\.50 cost"))).to_be_visible()
    here.page.get_by_label("By").select_option("key")
    expect(here.page.get_by_role("table", name="Usage by key")).to_contain_text("k1")


def test_who_may_not_read_usage_sees_limits_and_what_is_left(console: OpenConsole) -> None:
    here = console(quotas={"defaults": {"key": {"requests_per_minute": 5}}})
    here.sign_in("ward_user")
    here.open("Usage")
    limits = here.page.get_by_role("table", name="Limits in force")
    expect(limits.get_by_role("row", name=re.compile("Requests a minute"))).to_contain_text("5")
    expect(here.page.get_by_text("ask something first")).to_be_visible()
    expect(here.page.get_by_label("Measure")).to_have_count(0)
    here.open("Playground")
    expect(here.ask("hello")).to_contain_text("hello")
    here.open("Usage")
    expect(here.page.get_by_text("4 of 5 requests left")).to_be_visible()
