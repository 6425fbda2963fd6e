"""What a JSON text is made of, counted on its bytes before anything is built from it.

Parsing makes an object of each `[]`: four megabytes of them are 1.4 million, and the garbage collector walks them again
and again. Here a text of four megabytes costs 20 ms at most, whatever it holds, in calls that each go over all bytes.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from pydantic_core import from_json

from serving.errors import InvalidRequest
from serving.protocol import bounds

_PIECE = 2**20
"""Bytes that are looked at in one call: other threads have their turn in between."""
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'"[]{},')
_NUMBERS = bytes.maketrans(b"123456789E", b"000000000e")
_LONG_NUMBERS = (b"0" * 19, b"0e000", b"0e+000")
"""Without one of these, each digit written as 0, no number is beyond 64 bits or a float; texts may have them too. A
regular expression would take half a second for four megabytes.
"""


def read_object(text: bytes, known: Collection[str]) -> dict[str, Any]:
    """A JSON object within the bounds. known: names that an error may repeat; any other is the caller's own text.

    Raises InvalidRequest; it names the bound and quotes nothing.
    """
    check_structure(text)
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:
        raise InvalidRequest("The request body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if len(value) > bounds.FIELDS:
        raise InvalidRequest(f"The request body has more than {bounds.FIELDS} fields.")
    if _may_hold_long_numbers(text):
        _check_numbers(value, known)
    return value


def _may_hold_long_numbers(text: bytes) -> bool:
    for at in range(0, len(text), _PIECE):
        numbers = text[at : at + _PIECE + len(_LONG_NUMBERS[0])].translate(_NUMBERS)
        if any(long in numbers for long in _LONG_NUMBERS):
            return True
    return False


def check_structure(text: bytes) -> None:
    """Raises InvalidRequest for what holds too much of anything. What is no JSON may pass: the parser finds out."""
    if b"\\" in text:
        # In this order what is left of a backslash escapes no quote and no backslash.
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    structure = b"".join(piece.translate(_ONE_KIND, _NOT_STRUCTURE) for piece in pieces)
    _check_count(structure.count(b'"') // 2, bounds.STRINGS, "strings")
    outside = b"".join(structure.split(b'"')[::2])
    _check_count(outside.count(b"["), bounds.CONTAINERS, "objects and arrays")
    _check_count(outside.count(b",") + 1, bounds.VALUES, "values")
    nested = outside.translate(None, b",")
    for _ in range(bounds.DEPTH):
        if not (nested := nested.replace(b"[]", b"")):  # the innermost level
            return
    if b"[]" in nested:
        raise InvalidRequest(f"The request body is nested deeper than {bounds.DEPTH} levels.")


def _check_count(count: int, most: int, of: str) -> None:
    if count > most:
        raise InvalidRequest(f"The request body holds more than {most} {of}.")


def _check_numbers(body: dict[str, Any], known: Collection[str]) -> None:
    """Engines keep 64 bits; JSON's numbers have no end."""
    for name, field in body.items():
        level = [field]
        while level:
            if any(_is_beyond(value) for value in level):
                place = name if name in known else None
                where = f"'{place}'" if place else "The request"
                raise InvalidRequest(f"{where}: a number is too large, it must fit 64 bits.", param=place)
            nested = [value for value in level if isinstance(value, dict | list)]
            level = [child for one in nested for child in (one.values() if isinstance(one, dict) else one)]


def _is_beyond(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, int) and not -bounds.INTEGER - 1 <= value <= bounds.INTEGER
