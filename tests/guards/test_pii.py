"""Which identifiers are found, and which numbers are left alone. All numbers are test numbers or made up."""

from __future__ import annotations

import asyncio

import pytest

from serving.guards.guard import Verdict
from serving.guards.identifiers import IDENTIFIERS
from serving.guards.pii import PiiGuard
from serving.guards.results import PII

REAL = {
    "email": ["mail anna.muster+x@klinik.example.org.", "A@B.DE"],
    "phone": ["+49 (0)30 1234567", "+1-212-555-0123", "(212) 555-0123", "212-555-0123", "030/1234567", "0171 2345678"],
    "us_ssn": ["SSN 078-05-1120."],
    "credit_card": ["4111 1111 1111 1111", "4111-1111-1111-1111 22", "378282246310005", "3782 822463 10005"],
    "iban": ["DE89 3704 0044 0532 0130 00 paid", "GB82WEST12345698765432", "de89370400440532013000"],
    "nhs_number": ["943 476 5919", "9434765919", "943-476-5919"],
    "kvnr": ["A123456780"],
    "ip_address": ["10.1.2.3.", "2001:db8::8a2e:370:7334", "fe80::1"],
}
OTHER = {
    "email": ["a@b", "@handle", "5 mg @ 8:00"],
    "phone": ["2024-01-02", "12/2024", "RR 120/80", "1234567", "Hb 12.3", "+5 %", "0532 0130"],
    "us_ssn": ["000-12-3456", "666-12-3456", "078-00-1120", "1078-05-1120", "078-05-11201"],
    "credit_card": ["4111 1111 1111 1112", "0000 0000 0000 0000", "41111111111111111111", "12 34 56"],
    "iban": ["DE88 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130", "XX89370400440532013000"],
    "nhs_number": ["943 476 5918", "94347659190", "9434 765 919"],
    "kvnr": ["A123456781", "123456780", "AB123456780"],
    "ip_address": ["12:30:45", "1.2.3", "256.1.1.1", "::", "v1.2.3"],
}


async def of(kind: str, text: str) -> Verdict:
    return await PiiGuard("pii", kinds=[kind]).check_prompt([text])


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in REAL.items() for text in texts])
async def test_it_is_found(kind: str, text: str) -> None:
    for around in ("{}", "Patient {} seen", "x\n{}\ny"):
        verdict = await of(kind, around.format(text))
        assert [one["sub_category"] for one in verdict.results[PII]["sub_categories"]] == [kind]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in OTHER.items() for text in texts])
async def test_it_is_left_alone(kind: str, text: str) -> None:
    assert (await of(kind, text)).results == {PII: {"filtered": False, "detected": False}}


def test_every_identifier_is_tried() -> None:
    assert REAL.keys() == OTHER.keys() == IDENTIFIERS.keys()


@pytest.mark.parametrize("text", ["MRN 00123456", "mrn:00123456", "Pat.-Nr. A1234", "MRN #1234"])
async def test_a_record_number_has_one_of_the_hospitals_prefixes(text: str) -> None:
    guard = PiiGuard("pii", kinds=[], record_prefixes=["MRN", "Pat.-Nr."])
    assert (await guard.check_prompt([text])).decision == "annotated"
    assert (await guard.check_prompt([text.replace("M", "N").replace("P", "Q").replace("m", "n")])).decision == "passed"


async def test_it_annotates_unless_it_is_told_to_block() -> None:
    assert (await PiiGuard("pii").check_prompt(["a@b.org"])).decision == "annotated"
    assert (await PiiGuard("pii", mode="block").check_prompt(["a@b.org"])).blocks


async def test_a_long_prompt_is_searched_to_its_end_and_lets_others_run() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for place in (16_380, 16_384, 32_768, 99_990):
        text = ("1234 5678 " * 10_000)[:place] + " a@b.org " + "x" * 10
        assert (await PiiGuard("pii").check_prompt([text])).decision == "annotated"
    task.cancel()
    assert turns > 4
