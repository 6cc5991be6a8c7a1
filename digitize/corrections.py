"""What a person said about digits, back into the results: `digitize review apply`.

A file of corrections names the results that it belongs to by their hash, and each digit by its place, its box and what
was read. It comes from outside: it is held to its schema and to the results, and where anything disagrees nothing is
written.

Applied to results that it was applied to before, it changes nothing. These have another hash, so they are known by
what the corrections would have left there.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from digitize import audit
from digitize.errors import UsageError
from digitize.records import Box, Digit, Line, Number, PageReading, SheetReading, Status
from digitize.results import Results, read_bytes

SCHEMA = "digitize-corrections/1"
SCHEMA_FILE = "corrections-1.json"
LARGEST_FILE = 1 << 28  # bytes: corrections of a million digits
OFF_LINE = 0.5  # of a digit's height by which an added digit's middle may lie off its line
JOINS = 0.75  # digit heights: an added digit that stands no further from a number belongs to it

Spot = tuple[int, int, int]  # line, number, position
Trace = tuple[str, int, Box, int, Status]  # source, page, box, value: by which a digit is known again


@dataclass(frozen=True, slots=True)
class Decision:
    """What one digit of the results is.

    Attributes:
        source, page: its page.
        spot: its line, number and position, from 1.
        box: where it stands.
        was: what was read.
        now: the digits that stand there; "" for none.
        audit: it was left ok, and drawn for the sample.
    """

    source: str
    page: int
    spot: Spot
    box: Box
    was: int
    now: str
    audit: bool = False

    @property
    def confirms(self) -> bool:
        """Whether the digit was read right."""
        return self.now == str(self.was)


@dataclass(frozen=True, slots=True)
class Addition:
    """A digit that was missed."""

    source: str
    page: int
    box: Box
    value: int


@dataclass(frozen=True, slots=True)
class Corrections:
    """A file of corrections.

    Attributes:
        name, sha256, digits: of the results that it belongs to.
        decisions: at most one for each digit.
        added: digits that were missed.
        accepted: how many digits the audit sample was drawn from; None where there was none.
    """

    name: str
    sha256: str
    digits: int
    decisions: tuple[Decision, ...] = field(repr=False)
    added: tuple[Addition, ...] = field(repr=False)
    accepted: int | None = None

    def estimate(self) -> audit.Estimate | None:
        """What the audit sample says, where there was one."""
        if self.accepted is None:
            return None
        sample = [decision for decision in self.decisions if decision.audit]
        wrong = sum(not decision.confirms for decision in sample)
        return audit.estimate(wrong, len(sample), self.accepted)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What applying corrections came to.

    Attributes:
        results: with what was corrected.
        corrected, confirmed, removed, added: digits.
        left: digits whose status still is review.
        again: the corrections were in the results already.
        audit: what the sample says, where there was one.
    """

    results: Results
    corrected: int
    confirmed: int
    removed: int
    added: int
    left: int
    again: bool
    audit: audit.Estimate | None

    def __str__(self) -> str:
        said = (
            f"{self.corrected} corrected, {self.confirmed} confirmed, {self.added} added, {self.removed} removed, "
            f"{self.left} left to review"
        )
        parts = [f"nothing changed, these corrections are in there: {said}" if self.again else said]
        return "; ".join([*parts, *([str(self.audit)] if self.audit else [])])


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of corrections."""
    text = resources.files("digitize").joinpath("schema", SCHEMA_FILE).read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def load(path: Path) -> Corrections:
    """Read corrections, and hold them to their schema.

    Raises:
        UsageError: they cannot be read, or are none.
    """
    import jsonschema

    content = read_bytes(path, LARGEST_FILE)
    try:
        document = json.loads(content.decode("utf-8"), parse_constant=_refuse)
        jsonschema.validate(document, schema(), cls=jsonschema.Draft202012Validator)
    except jsonschema.ValidationError as error:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
        said = f"{place.lstrip('.') or 'the document'}: {error.message[:200]}"
        raise UsageError(f"{path}: does not fit the schema of corrections: {said}; save it anew") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is no JSON ({error}); save it anew from the page") from error
    decisions = tuple(_decision(item) for item in document["decisions"])
    twice = Counter((one.source, one.page, one.spot) for one in decisions)
    if decisions and max(twice.values()) > 1:
        source, page, spot = max(twice, key=lambda key: twice[key])
        raise UsageError(f"{path}: decides twice on {_named(source, page, spot)}; save it anew from the page")
    added = tuple(
        Addition(item["source"], int(item["page"]), _box(item), int(item["now"])) for item in document["added"]
    )
    about = document["results"]
    accepted = (document.get("audit") or {}).get("accepted")
    return Corrections(about["name"], about["sha256"], int(about["digits"]), decisions, added, accepted)


def apply(results: Results, corrections: Corrections) -> Outcome:
    """Put corrections into the results that they belong to.

    Decided digits get the status "confirmed" or "corrected" and confidence 1. One that is several is cut evenly; one
    that is none goes, and its number and line with it where they hold nothing else. Added digits join the number and
    line that they stand at.

    Raises:
        UsageError: they belong to other results, or contradict these.
    """
    again = results.sha256 != corrections.sha256
    if again and not _is_applied(results, corrections):
        raise UsageError(
            f"{results.path}: these corrections belong to other results ({corrections.name}, sha256 "
            f"{corrections.sha256[:12]}…, not {results.sha256[:12]}…); give the file that the page was made from"
        )
    corrected = results if again else replace(results, sheets=correct(results, corrections))
    return Outcome(
        corrected,
        sum(not one.confirms and one.now != "" for one in corrections.decisions),
        sum(one.confirms for one in corrections.decisions),
        sum(one.now == "" for one in corrections.decisions),
        len(corrections.added),
        left_to_review(corrected),
        again,
        corrections.estimate(),
    )


def left_to_review(results: Results) -> int:
    """How many digits still are to be looked at."""
    pages = [page for sheet in results.sheets for page in sheet.pages]
    return sum(digit.status == "review" for page in pages for *_, digit in page.digits())


def correct(results: Results, corrections: Corrections) -> tuple[SheetReading, ...]:
    """The sheets as they are after the corrections.

    Raises:
        UsageError: a correction contradicts the results.
    """
    decided = {(one.source, one.page, one.spot): one for one in corrections.decisions}
    added: dict[tuple[str, int], list[Addition]] = {}
    for extra in corrections.added:
        added.setdefault((extra.source, extra.page), []).append(extra)
    sheets = []
    for sheet in results.sheets:
        pages = []
        for page in sheet.pages:
            own = {spot: decided.pop((sheet.source, page.number, spot)) for spot in _spots(sheet, page, decided)}
            missed = added.pop((sheet.source, page.number), [])
            _check_within(page, missed, sized=results.form != "csv")
            pages.append(_corrected(page, own, missed))
        sheets.append(replace(sheet, pages=tuple(pages)))
    if decided:
        raise UsageError(f"{results.path}: has no digit at {_named(*next(iter(decided)))}, which was decided on")
    if added:
        source, number = next(iter(added))
        raise UsageError(f"{results.path}: has no page {number} of {source!r}, to which a digit was added")
    return tuple(sheets)


def split_box(box: Box, count: int) -> list[Box]:
    """Cut a box evenly into `count` boxes side by side, each at least a pixel wide."""
    edges = [box.left + round(k * box.width / count) for k in range(count + 1)]
    return [
        Box(min(left, box.right - 1), box.top, max(1, right - left), box.height)
        for left, right in itertools.pairwise(edges)
    ]


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _box(item: dict[str, Any]) -> Box:
    """An item's box, in whole numbers: JSON and its schema take 3.0 for one."""
    return Box(**{side: int(pixels) for side, pixels in item["box"].items()})


def _decision(item: dict[str, Any]) -> Decision:
    return Decision(
        item["source"],
        int(item["page"]),
        (int(item["line"]), int(item["number"]), int(item["position"])),
        _box(item),
        int(item["was"]),
        item["now"],
        item.get("audit", False),
    )


def _named(source: str, page: int, spot: Spot) -> str:
    return f"{source!r}, page {page}, line {spot[0]}, number {spot[1]}, position {spot[2]}"


def _spots(sheet: SheetReading, page: PageReading, decided: dict[tuple[str, int, Spot], Decision]) -> list[Spot]:
    """Where on a page digits were decided on; refuses decisions about what does not stand there."""
    found = []
    for *place, digit in page.digits():
        spot = (place[0], place[1], place[2])
        one = decided.get((sheet.source, page.number, spot))
        if one is None:
            continue
        if one.was != digit.value or one.box != digit.box:
            stands = f"{digit.value} at {digit.box}, not {one.was} at {one.box}"
            raise UsageError(f"{_named(sheet.source, page.number, spot)}: there stands {stands}; make the page anew")
        found.append(spot)
    return found


def _check_within(page: PageReading, extra: list[Addition], *, sized: bool) -> None:
    for one in extra:
        if sized and (one.box.right > page.width or one.box.bottom > page.height):
            raise UsageError(f"{one.source!r}, page {page.number}: {one.box} does not lie on the page; add it anew")


def _corrected(page: PageReading, decided: dict[Spot, Decision], extra: list[Addition]) -> PageReading:
    lines = []
    for at_line, line in enumerate(page.lines, 1):
        numbers = []
        for at_number, number in enumerate(line.numbers, 1):
            digits: list[Digit] = []
            for at, digit in enumerate(number.digits, 1):
                one = decided.get((at_line, at_number, at))
                digits += [digit] if one is None else list(_decided(digit, one.now))
            numbers.append(digits)
        lines.append([digits for digits in numbers if digits])
    lines = [numbers for numbers in lines if numbers]
    for missed in sorted(extra, key=lambda missed: missed.box):
        _insert(lines, Digit(missed.value, 1.0, missed.value, 0.0, "corrected", missed.box))
    untouched = {number.digits: number for line in page.lines for number in line.numbers}  # with what rules said of it
    made = [[untouched.get(tuple(digits)) or Number(tuple(digits)) for digits in numbers] for numbers in lines]
    return replace(page, lines=tuple(Line(tuple(numbers)) for numbers in made))


def _decided(digit: Digit, now: str) -> Iterator[Digit]:
    """What stands in the place of a digit that was decided on."""
    if now == str(digit.value):
        yield replace(digit, confidence=1.0, alternative_confidence=0.0, status="confirmed")
        return
    for letter, box in zip(now, split_box(digit.box, len(now)) if now else [], strict=True):
        yield Digit(int(letter), 1.0, digit.value, 0.0, "corrected", box)


def _insert(lines: list[list[list[Digit]]], digit: Digit) -> None:
    """Put a digit into the line and number that it stands at, or into new ones."""
    line = _line_of(lines, digit.box)
    if line is None:
        above = sum(_middle([one.box for digits in numbers for one in digits]) < _y(digit.box) for numbers in lines)
        lines.insert(above, [[digit]])
        return
    apart = [_gap(Box.around([one.box for one in digits]), digit.box) for digits in line]
    nearest = min(range(len(line)), key=lambda k: apart[k])
    if apart[nearest] <= JOINS * max(digit.box.height, line[nearest][0].box.height):
        before = sum(_x(one.box) <= _x(digit.box) for one in line[nearest])
        line[nearest].insert(before, digit)
        return
    line.insert(sum(_x(digits[0].box) <= _x(digit.box) for digits in line), [digit])


def _line_of(lines: list[list[list[Digit]]], box: Box) -> list[list[Digit]] | None:
    """The line that a box stands on; of each, the digit nearest to the box says how high it runs there."""
    best, least = None, OFF_LINE
    for numbers in lines:
        nearest = min((one.box for digits in numbers for one in digits), key=lambda other: abs(_x(other) - _x(box)))
        off = abs(_y(nearest) - _y(box)) / max(nearest.height, box.height)
        if off <= least:
            best, least = numbers, off
    return best


def _x(box: Box) -> float:
    return box.left + box.width / 2


def _y(box: Box) -> float:
    return box.top + box.height / 2


def _middle(boxes: list[Box]) -> float:
    return statistics.median(_y(box) for box in boxes)


def _gap(a: Box, b: Box) -> int:
    """Pixels between two boxes across; 0 where one stands over the other."""
    return max(0, a.left - b.right, b.left - a.right)


def _is_applied(results: Results, corrections: Corrections) -> bool:
    """Whether the results are what these corrections leave: as many digits, and the decided ones among them."""
    expected: Counter[Trace] = Counter()
    for one in corrections.decisions:
        status: Status = "confirmed" if one.confirms else "corrected"
        for letter, box in zip(one.now, split_box(one.box, len(one.now)) if one.now else [], strict=True):
            expected[one.source, one.page, box, int(letter), status] += 1
    for extra in corrections.added:
        expected[extra.source, extra.page, extra.box, extra.value, "corrected"] += 1
    found: Counter[Trace] = Counter(
        (sheet.source, page.number, digit.box, digit.value, digit.status)
        for sheet in results.sheets
        for page in sheet.pages
        for *_, digit in page.digits()
    )
    digits = corrections.digits + sum(len(one.now) - 1 for one in corrections.decisions) + len(corrections.added)
    boxes = {(source, page, box) for source, page, box, *_ in found}
    gone = {(one.source, one.page, one.box) for one in corrections.decisions if not one.now}
    said = bool(corrections.decisions or corrections.added)
    return said and results.digits == digits and expected <= found and not gone & boxes
