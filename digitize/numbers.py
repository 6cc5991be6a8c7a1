"""Numbers held to what is known of them: which fail, how far they are believed then, and what they may be instead.

A reading is never changed here. Where a number fails a rule its digits are marked for review, and if runner-ups in the
place of a few digits give a number that passes, the likeliest such reading is put beside it as a proposal.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from digitize.checks import Rule
from digitize.records import RULES_BROKEN, Line, Number, PageReading, Status

MOST_SWAPS = 3  # digits of a number that a proposal changes
LEAST_LIKELY = 0.01  # probability of being right from which a reading is proposed; by chance one in ten passes a check
MOST_DOUBTED = 12  # digits of a number, the least sure ones, that it may change
SETTLED: tuple[Status, ...] = ("corrected", "confirmed")


def judge_page(page: PageReading, rules: Sequence[Rule]) -> PageReading:
    """Hold every number of a page to rules."""
    lines = tuple(Line(tuple(judge(number, rules) for number in line.numbers)) for line in page.lines)
    return replace(page, lines=lines)


def judge(number: Number, rules: Sequence[Rule]) -> Number:
    """Hold a number to rules: where it fails some, it names them, its digits are to review, and it has a proposal."""
    failed = tuple(rule.name for rule in rules if not rule.passes(number.text))
    if not failed:
        return number
    digits = tuple(digit if digit.status in SETTLED else replace(digit, status="review") for digit in number.digits)
    proposal, confidence = propose(number, rules)
    return Number(digits, failed, proposal, confidence)


def propose(number: Number, rules: Sequence[Rule]) -> tuple[str, float]:
    """The likeliest reading that passes all rules with runner-ups in the place of at most `MOST_SWAPS` digits.

    Returns:
        The reading, and the probability that it is right given that the number as read fails; "" and 0 where none is
        likely enough.
    """
    odds = {
        at: digit.alternative_confidence / digit.confidence
        for at, digit in enumerate(number.digits)
        if digit.status not in SETTLED and digit.confidence > 0 and digit.alternative_confidence > 0
    }
    doubted = sorted(odds, key=lambda at: -odds[at])[:MOST_DOUBTED]
    whole = Number(number.digits).confidence
    best, most = "", 0.0
    for count in range(1, MOST_SWAPS + 1):
        for swapped in itertools.combinations(doubted, count):
            likely = whole
            for at in swapped:
                likely *= odds[at]
            if likely <= most:
                continue
            text = "".join(
                str(digit.alternative if at in swapped else digit.value) for at, digit in enumerate(number.digits)
            )
            if all(rule.passes(text) for rule in rules):
                best, most = text, likely
    confidence = min(1.0, most / (whole * RULES_BROKEN + 1 - whole)) if best else 0.0
    return (best, confidence) if confidence >= LEAST_LIKELY else ("", 0.0)


def status_of(number: Number) -> Status:
    """What is to be done about a number: review where any of its digits is to be reviewed."""
    statuses = {digit.status for digit in number.digits}
    if "review" in statuses:
        return "review"
    if "corrected" in statuses:
        return "corrected"
    return "confirmed" if statuses == {"confirmed"} else "ok"


def doubtful(number: Number) -> list[int]:
    """Positions, from 1, of the digits to review."""
    return [at for at, digit in enumerate(number.digits, 1) if digit.status == "review"]
