"""Server-sent events: what is cut out of the bytes, and what is written."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from serving.protocol import sse

EVENT = st.binary(min_size=1, max_size=20).filter(lambda b: b"\n" not in b).map(lambda b: b + b"\n\n")
EVENTS = st.lists(EVENT, max_size=8)
CUTS = st.lists(st.integers(0, 200), max_size=8)


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(places)]


@given(EVENTS, CUTS)
def test_any_split_of_a_stream_gives_the_same_bytes_in_whole_events(events: list[bytes], cuts: list[int]) -> None:
    cutter = sse.EventCutter()
    blocks = [cutter.feed(piece) for piece in split(b"".join(events), cuts)]
    assert b"".join(blocks) == b"".join(events)
    assert all(not block or block.endswith(b"\n\n") for block in blocks)


@given(EVENTS, st.binary(max_size=20).filter(lambda b: b"\n" not in b), CUTS)
def test_what_has_no_end_yet_is_held_back(events: list[bytes], rest: bytes, cuts: list[int]) -> None:
    cutter = sse.EventCutter()
    pieces = split(b"".join(events) + rest, cuts)
    assert b"".join(map(cutter.feed, pieces)) == b"".join(events)
    assert cutter.feed(b"\n\n") == (rest + b"\n\n" if rest else b"\n\n")


@given(EVENTS, CUTS)
def test_an_event_is_passed_on_with_the_bytes_that_complete_it(events: list[bytes], cuts: list[int]) -> None:
    cutter, seen, passed = sse.EventCutter(), b"", b""
    for piece in split(b"".join(events), cuts):
        seen += piece
        passed += cutter.feed(piece)
        assert passed == seen[: seen.rfind(b"\n\n") + 2 if b"\n\n" in seen else 0]


@given(EVENTS)
def test_a_block_falls_apart_into_its_events(events: list[bytes]) -> None:
    assert list(sse.events_in(b"".join(events))) == events


TEXT = st.text(st.sampled_from('aé😀"\\\n\r '))


@given(st.dictionaries(TEXT, st.integers() | TEXT))
def test_what_is_encoded_is_one_event_that_reads_back(payload: dict[str, int | str]) -> None:
    event = sse.encode(payload)
    assert event.startswith(b"data: ") and event.index(b"\n\n") == len(event) - 2 and b"\r" not in event
    assert sse.payload_of(event) == payload


def test_done_has_no_payload_and_neither_has_what_is_no_object() -> None:
    assert sse.payload_of(sse.DONE) is None
    assert sse.payload_of(b"data: []\n\n") is None


def test_text_keeps_its_letters() -> None:
    assert sse.encode({"text": "é"}) == 'data: {"text":"é"}\n\n'.encode()
    assert json.loads(sse.encode({"text": "\n\n"})[6:]) == {"text": "\n\n"}
