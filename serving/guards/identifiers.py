"""Identifiers of persons: how each is written, and the check that tells it from any other number."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

# Lengths by country, ISO 13616 (https://www.swift.com/resource/iban-registry-pdf).
_IBAN = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "ES": 24, "FI": 18, "FO": 18, "FR": 27,
    "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27,
    "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22,
    "MK": 19, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
    "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "XK": 20,
}  # fmt: skip


def _grouped(size: int) -> re.Pattern[str]:
    """An IBAN of so many characters, with or without spaces between groups of four."""
    rest = f" ?[A-Za-z0-9]{{{size % 4}}}" if size % 4 else ""
    return re.compile(rf"[A-Za-z]{{2}}[0-9]{{2}}(?: ?[A-Za-z0-9]{{4}}){{{size // 4 - 1}}}{rest}(?!\w)")


class Identifier(Protocol):
    """A kind of identifier. longest: in characters. hint: a pattern of RE2's that every text with one matches; it is
    what makes looking for them cheap.
    """

    @property
    def name(self) -> str: ...
    @property
    def longest(self) -> int: ...
    @property
    def hint(self) -> str: ...

    def found_in(self, text: str, begin: int, end: int) -> bool:
        """Does text[begin:end] hold one? What stands before and after tells whether it is whole."""
        ...


@dataclass(frozen=True)
class Written:
    """An Identifier by the ways in which it is written. patterns: each with the candidate in group 1 of a look-ahead,
    so that every place is tried. All are bounded and look one character beyond the candidate: the time is linear.
    """

    name: str
    longest: int
    hint: str
    patterns: tuple[re.Pattern[str], ...]
    check: Callable[[str], bool] = field(default=lambda candidate: True)

    def found_in(self, text: str, begin: int, end: int) -> bool:
        return any(
            match.end(1) <= end and self.check(match[1])
            for pattern in self.patterns
            for match in pattern.finditer(text, begin)
        )


class Iban:
    """An Identifier, whose length is its country's: in groups of four it may run on into the next word."""

    name, longest, hint = "iban", 42, "[A-Za-z]{2}[0-9]{2} ?[A-Za-z0-9]{4}"
    _begin = re.compile(r"(?<!\w)[A-Za-z]{2}(?=[0-9]{2})")
    _after_begin: ClassVar = {size: _grouped(size) for size in set(_IBAN.values())}

    def found_in(self, text: str, begin: int, end: int) -> bool:
        for country in self._begin.finditer(text, begin):
            size = _IBAN.get(country[0].upper())
            match = self._after_begin[size].match(text, country.start()) if size else None
            if match and match.end() <= end and mod97(match[0]):
                return True
        return False


def _written(*ways: str, before: str = r"(?<!\w)", after: str = r"(?!\w)") -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(f"{before}(?=({way}){after})") for way in ways)


def _digits(text: str) -> list[int]:
    return [int(character) for character in text if character.isdecimal()]


def luhn(candidate: str) -> bool:
    """ISO/IEC 7812-1: the check digit of payment cards."""
    doubled = [
        digit if at % 2 == 0 else sum(divmod(2 * digit, 10)) for at, digit in enumerate(_digits(candidate)[::-1])
    ]
    return sum(doubled) % 10 == 0 and any(doubled)


def mod97(candidate: str) -> bool:
    """ISO 13616 with ISO 7064: the length of its country, and the check digits of an IBAN."""
    iban = candidate.replace(" ", "").upper()
    return len(iban) == _IBAN.get(iban[:2]) and int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1


def nhs(candidate: str) -> bool:
    """The NHS number's check digit, modulus 11 (https://www.datadictionary.nhs.uk/attributes/nhs_number.html)."""
    digits = _digits(candidate)
    rest = 11 - sum(digit * weight for digit, weight in zip(digits, range(10, 1, -1), strict=False)) % 11
    return rest % 11 == digits[9] and rest != 10


def kvnr(candidate: str) -> bool:
    """The check digit of the German health insurance number, SGB V § 290: the letter as two digits, weights 1 and 2."""
    digits = [*divmod(ord(candidate[0].upper()) - 64, 10), *_digits(candidate[1:9])]
    return sum(sum(divmod(d * (1 + at % 2), 10)) for at, d in enumerate(digits)) % 10 == int(candidate[9])


def _address(candidate: str) -> bool:
    try:
        return int(ipaddress.ip_address(candidate)) > 1  # not `::`, not `::1`
    except ValueError:
        return False


IDENTIFIERS: dict[str, Identifier] = {
    kind.name: kind
    for kind in (
        Written(
            "email",
            longest=64 + 1 + 4 * 41 + 24,
            hint=r"@[A-Za-z0-9-]+\.[A-Za-z]",
            patterns=_written(
                r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,40}\.){1,4}[A-Za-z]{2,24}",
                before=r"(?<![\w.%+-])",
                after=r"(?![\w-])",
            ),
        ),
        Written(
            "phone",
            longest=34,
            hint=r"\+[1-9]|[0-9]{3}\)?[ .-]?[0-9]{3}[ .-][0-9]{4}|0[1-9][0-9]{1,4}[ /-][0-9]{3}",
            patterns=_written(
                r"\+[1-9][0-9]{0,2}(?:[ ./-]?\(0\))?(?:[ ./-]?[0-9]){7,12}",
                r"(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}",
                r"0[1-9][0-9]{1,4}(?:[/-][0-9]{3,8}| [0-9]{5,8})(?:-[0-9]{1,5})?",
                before=r"(?<![\w+(./-])",
                after=r"(?![\w/])",
            ),
        ),
        Written(
            "us_ssn",
            longest=11,
            hint="[0-9]{3}-[0-9]{2}-[0-9]{4}",
            patterns=_written(
                r"(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}", before=r"(?<![\w-])", after=r"(?![\w-])"
            ),
        ),
        Written(
            "credit_card",
            longest=23,
            hint="[2-6][0-9]{12}|[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}|3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4}",
            patterns=_written(
                "[2-6][0-9]{12,18}",
                "[2-6][0-9]{3}(?:[ -][0-9]{4}){3}",
                "[2-6][0-9]{3}(?:[ -][0-9]{4}){3}[ -][0-9]{3}",
                "3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5}",
            ),
            check=luhn,
        ),
        Iban(),
        Written(
            "nhs_number",
            longest=12,
            hint="[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}",
            patterns=_written("[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}"),
            check=nhs,
        ),
        Written("kvnr", longest=10, hint="[A-Z][0-9]{9}", patterns=_written("[A-Z][0-9]{9}"), check=kvnr),
        Written(
            "ip_address",
            longest=39,
            hint=r"(?:[0-9]{1,3}\.){3}[0-9]|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:",
            patterns=_written(
                r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}",
                "(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}",
                before=r"(?<![\w.:])",
                after=r"(?![\w:])",
            ),
            check=_address,
        ),
    )
}


def record_number(prefixes: tuple[str, ...]) -> Identifier:
    """A medical record number: digits after one of a hospital's prefixes, such as `MRN: 00123456`."""
    names = "|".join(re.escape(prefix) for prefix in prefixes)
    rest = " ?[:#.=-]? ?[A-Za-z]?[0-9]"
    return Written(
        "record_number",
        longest=max(map(len, prefixes)) + 16,
        hint="[0-9]{4}",
        patterns=_written(f"(?i:{names}){rest}{{4,12}}"),
    )
