"""Readings as one row a number: `digitize scan --level number`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TextIO

from digitize import numbers, write
from digitize.records import SheetReading


@dataclass(frozen=True, slots=True)
class NumberRow:
    """One row; its fields are the columns, in order.

    Attributes:
        source, page, line, number: as in the rows of digits.
        text: the digits as read, leading zeros kept.
        confidence: probability that all of it is right; lower where it fails a rule.
        status: review where a digit is, or where it fails a rule.
        doubtful: positions of its digits to review, from 1, with spaces between.
        failed: names of the rules that it fails, with spaces between.
        proposal: a reading with runner-ups that passes all rules; empty where there is none or none is needed.
        proposal_confidence: probability that the proposal is right; 0 where there is none.
        left, top, width, height: of the box around its digits.
    """

    source: str
    page: int
    line: int
    number: int
    text: str
    confidence: float
    status: str
    doubtful: str
    failed: str
    proposal: str
    proposal_confidence: float
    left: int
    top: int
    width: int
    height: int


COLUMNS = tuple(field.name for field in fields(NumberRow))


def rows(sheet: SheetReading) -> Iterable[NumberRow]:
    """Yield the rows of a sheet in reading order."""
    for page in sheet.pages:
        for at_line, line in enumerate(page.lines, 1):
            for at, number in enumerate(line.numbers, 1):
                box = number.box
                yield NumberRow(
                    *(sheet.source, page.number, at_line, at, number.text, number.confidence),
                    status=numbers.status_of(number),
                    doubtful=" ".join(map(str, numbers.doubtful(number))),
                    failed=" ".join(number.failed),
                    proposal=number.proposal,
                    proposal_confidence=number.proposal_confidence,
                    left=box.left,
                    top=box.top,
                    width=box.width,
                    height=box.height,
                )


def write_numbers(sheets: Iterable[SheetReading], output: write.Output | TextIO, generator: write.Generator) -> None:
    """Write one row a number under a header; `generator` has no place in a CSV."""
    write.write_rows((row for sheet in sheets for row in rows(sheet)), COLUMNS, output)
