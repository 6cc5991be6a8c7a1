"""What a user knows of the numbers on a sheet, as rules that a reading passes or fails.

All of them take the digits of one number as text, leading zeros kept. Check digits: Luhn (ISO/IEC 7812-1), modulo 11
with the weights 2, 3, 4, ... from the right and the check digit itself last (as in ISBN-10, without its X), and IBAN
(ISO 13616, modulo 97) for countries whose account numbers hold digits only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from digitize.errors import UsageError

# Digits of an IBAN after its country, of countries where nothing but digits follows (SWIFT's IBAN registry).
IBAN_LENGTHS = {
    **{"AT": 18, "BA": 18, "BE": 14, "CR": 20, "CZ": 22, "DE": 20, "DK": 16, "EE": 18, "ES": 22, "FI": 16, "HR": 19},
    **{"HU": 26, "IL": 21, "IS": 24, "LT": 18, "ME": 20, "NO": 13, "PL": 26, "PT": 23, "RS": 20, "SE": 22, "SI": 17},
    **{"SK": 22, "TN": 22, "XK": 18},
}
MOST_DIGITS = 18  # of either end of a span
CHECKS = ("luhn", "mod11", "iban")


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is known of every number.

    Attributes:
        name: as it is reported where a number fails.
        passes: takes the digits of a number; a function of a module or a partial of one, for processes to be told.
        asked: what was asked for, as it was written.
    """

    name: str
    passes: Callable[[str], bool]
    asked: str = ""


def parse_rules(
    *,
    expect_length: str | None = None,
    pattern: str | None = None,
    within: str | None = None,
    check: str | None = None,
) -> tuple[Rule, ...]:
    """Read the options of the command line; those that are None ask for nothing.

    Args:
        expect_length: how many digits, such as ``5`` or ``4-6``.
        pattern: a regular expression that all of the number fits.
        within: the least and the largest value, such as ``1-31``, ``100-`` or ``-500``.
        check: ``luhn``, ``mod11``, ``iban``, or an IBAN of one country as ``iban:DE``.

    Raises:
        UsageError: one of them makes no sense.
    """
    return tuple(_rules(expect_length, pattern, within, check))


def _rules(length: str | None, pattern: str | None, within: str | None, check: str | None) -> Iterator[Rule]:
    if length is not None:
        least, most = _span(length, "--expect-length", "5 or 4-6")
        yield Rule("length", partial(_has_length, least, most), length)
    if pattern is not None:
        try:
            compiled = re.compile(pattern, re.ASCII)
        except re.error as error:
            raise UsageError(f"--pattern {pattern!r}: is no regular expression: {error}") from error
        yield Rule("pattern", partial(_fits, compiled), pattern)
    if within is not None:
        low, high = _span(within, "--range", "1-31, 100- or -500")
        yield Rule("range", partial(_lies_within, low, high), within)
    if check is not None:
        yield Rule(check, _check(check), check)


def _has_length(least: int, most: int | None, text: str) -> bool:
    return least <= len(text) and (most is None or len(text) <= most)


def _fits(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.fullmatch(text) is not None


def _lies_within(low: int, high: int | None, text: str) -> bool:
    digits = text.lstrip("0") or "0"
    value = int(digits) if len(digits) <= MOST_DIGITS else 10**MOST_DIGITS  # beyond the end of any span
    return low <= value and (high is None or value <= high)


def _span(text: str, option: str, examples: str) -> tuple[int, int | None]:
    match = re.fullmatch(rf"([0-9]{{0,{MOST_DIGITS}}})(-?)([0-9]{{0,{MOST_DIGITS}}})", text)
    if match is None or not (match[1] or match[3]) or (match[3] and not match[2]):
        raise UsageError(f"{option} {text!r}: is no span; write for example {examples}")
    low = int(match[1] or 0)
    high = low if not match[2] else int(match[3]) if match[3] else None
    if high is not None and high < low:
        raise UsageError(f"{option} {text!r}: nothing lies in it; the lesser end comes first")
    return low, high


def _check(name: str) -> Callable[[str], bool]:
    if name == "luhn":
        return is_luhn
    if name == "mod11":
        return is_mod11
    kind, colon, country = name.partition(":")
    if kind == "iban" and not colon:
        return is_iban
    if kind == "iban" and country in IBAN_LENGTHS:
        return partial(is_iban, country=country)
    known = f"{', '.join(CHECKS)}, or iban: and one of {' '.join(sorted(IBAN_LENGTHS))}"
    raise UsageError(f"--check {name!r}: no such check; choose one of {known}")


def is_luhn(text: str) -> bool:
    """Whether the last digit checks the others by Luhn's formula; a number of one digit has none."""
    total = 0
    for place, letter in enumerate(reversed(text)):
        doubled = int(letter) * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return len(text) > 1 and total % 10 == 0


def is_mod11(text: str) -> bool:
    """Whether the digits, weighted 1, 2, 3, ... from the right, add up to a multiple of 11."""
    return len(text) > 1 and sum(weight * int(letter) for weight, letter in enumerate(reversed(text), 1)) % 11 == 0


def is_iban(text: str, country: str | None = None) -> bool:
    """Whether digits are an IBAN's after its country, of that country or of any."""
    countries = IBAN_LENGTHS if country is None else (country,)
    return any(len(text) == IBAN_LENGTHS[one] and _is_mod97(text, one) for one in countries)


def _is_mod97(text: str, country: str) -> bool:
    letters = "".join(str(ord(letter) - ord("A") + 10) for letter in country)
    return int(text[2:] + letters + text[:2]) % 97 == 1
