"""Where digits get lost: for a labelled set, how many each stage loses, so that the largest loss is worked on first.

Reads the sheets as `scan` does, then takes each sheet down to its candidates, or to a detector's places, once more and
asks of every true digit that did not come out right which stage spoiled it. Answers belong to true boxes as in the
shared scorer: by an intersection over union of at least `MATCH`, or where each box holds the other's centre, best
overlap first. Sets without boxes are aligned as strings (Levenshtein), which tells less.

The stages are asked in their order, so a digit is counted once, at the first stage that can be blamed. All that is
known of a digit is its box: ink of a neighbour inside it counts as its own, which blurs the border between causes.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitize import sheets
from digitize.errors import DatasetError, SheetError
from digitize.records import Box, Digit, Page, shared_area
from digitize.scan import Draft, Scanner

MATCH = 0.35  # intersection over union from which an answer is held to be at a true box, as in the shared scorer
SAME_PLACE = 0.7  # intersection over union from which a candidate is that digit, whatever its ink
WHOLE, PURE = 0.88, 0.80  # share of a box's ink that a candidate holds, and of its own ink that lies in the box
BROKEN = 0.78  # share of a box's ink below which an answer is a fragment
COVERED = 0.5  # share of a true box that an answer covers to have swallowed it
TOUCHED = 0.25  # share of the smaller of two boxes that the other covers to have to do with it
LITTLE_INK = 0.5  # of a stroke as long as the box: a digit has more
RULED = 0.35  # share of a box's ink that was taken for rules from which they are blamed
SKIP, EXCHANGE = 2, 3  # of an edit script; at 1 to 1 a stretch that moved would pass for one misread from end to end
SHORTEST_MOVE = 2  # digits in a row that stand elsewhere in the answer to be in the wrong order, not misread
PAGES_AT_ONCE = 16

Truth = list[tuple[int, Box]]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of true digits by what became of them, and of answers that are no true digit.

    Attributes:
        right: at their place, with their value, in their order.
        no_ink: there is hardly any ink in the box, before rules are taken out.
        ruled: rules took much of the ink in the box.
        cut, cut_unoffered: only parts of the digit were answered; no candidate was the whole digit.
        merged, merged_unoffered: the answer holds another digit too; no candidate was this digit alone.
        refused, refused_unoffered: nothing was answered there; no candidate was the digit.
        misread: the right ink, the wrong value.
        disordered: right, but before or after its place.
        missing: of sets without boxes, not in the answer.
        fragments: answers too many at true digits.
        invented: answers where no true digit is.
        extra: of sets without boxes, answers too many.
    """

    right: int = 0
    no_ink: int = 0
    ruled: int = 0
    cut: int = 0
    cut_unoffered: int = 0
    merged: int = 0
    merged_unoffered: int = 0
    refused: int = 0
    refused_unoffered: int = 0
    misread: int = 0
    disordered: int = 0
    missing: int = 0
    fragments: int = 0
    invented: int = 0
    extra: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))

    @property
    def too_many(self) -> int:
        """Answers that are no true digit."""
        return self.fragments + self.invented + self.extra

    @property
    def digits(self) -> int:
        """True digits."""
        counts: list[int] = [getattr(self, f.name) for f in fields(Tally)]
        return sum(counts) - self.too_many

    @property
    def lost(self) -> int:
        """Everything that went wrong."""
        return self.digits - self.right + self.too_many


@dataclass(frozen=True, slots=True)
class SheetLosses:
    """What one sheet lost.

    Attributes:
        name: of its file.
        group: the kind that the truth gives it, or "".
        boxed: whether its truth has boxes.
        tally: the counts.
    """

    name: str
    group: str
    boxed: bool
    tally: Tally


@dataclass(frozen=True, slots=True)
class Table:
    """What a labelled set lost, sheet by sheet."""

    sheets: tuple[SheetLosses, ...]

    @property
    def total(self) -> Tally:
        """Over all sheets."""
        return sum((sheet.tally for sheet in self.sheets), Tally())

    def worst(self, count: int) -> list[SheetLosses]:
        """The sheets that lost most, the worst first; none that lost nothing."""
        lossy = [sheet for sheet in self.sheets if sheet.tally.lost]
        return sorted(lossy, key=lambda sheet: -sheet.tally.lost)[:count]


def losses(folder: Path, scanner: Scanner) -> Table:
    """Read a labelled set and tell where its digits get lost.

    Args:
        folder: holds `images/` and `truth.json`, which maps the images' names to `{"digits": "90210" or null,
            "boxes": [[digit, left, top, width, height], ...] or null, "kind": ...}`.
        scanner: reads the sheets, with its settings.

    Raises:
        DatasetError: there is no truth, or it is not of that form.
        SheetError: a sheet cannot be read.
    """
    truth = _load_truth(folder / "truth.json")
    found = [sheet for sheet in sheets.find([str(folder / "images")]) if Path(sheet.source).name in truth]
    if not found:
        raise DatasetError(f"{folder / 'images'}: none of the {len(truth)} images that truth.json names is there")
    results = []
    for names, pages in _in_batches(found):
        for name, own, reading in zip(names, pages, _read(scanner, pages), strict=True):
            results.append(_examine(name, truth[name], own, reading, scanner))
    return Table(tuple(results))


def render(table: Table, *, worst: int = 0) -> str:
    """Set a table as Markdown: a row for each kind of sheet and one for all; columns that do not apply are left out.

    Args:
        table: what `losses` gave.
        worst: so many sheets get a row of their own as well.
    """
    groups: dict[str, Tally] = {}
    for sheet in table.sheets:
        groups[sheet.group] = groups.get(sheet.group, Tally()) + sheet.tally
    rows = [(group, groups[group]) for group in sorted(groups)] if len(groups) > 1 else []
    rows += [("all", table.total), *((sheet.name, sheet.tally) for sheet in table.worst(worst))]
    columns = [c for c in COLUMNS if any(sheet.boxed in c.boxed for sheet in table.sheets)]
    cells = [["", "digits", *(column.head for column in columns)]]
    for name, tally in rows:
        cells.append([name, str(tally.digits), *(str(getattr(tally, column.count)) for column in columns)])
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    cells.insert(1, ["-" * w if k == 0 else "-" * (w - 1) + ":" for k, w in enumerate(widths)])
    return "\n".join("| " + " | ".join(_padded(row, widths)) + " |" for row in cells)


def match_boxes(truth: Sequence[Box], answers: Sequence[Box]) -> list[tuple[int, int]]:
    """Pair true boxes with answers, each at most once, best overlap first, exactly as the shared scorer does.

    Returns:
        Pairs (index of the true box, index of the answer).
    """
    if not truth or not answers:
        return []
    scores = _overlaps(_corners(truth), _corners(answers))
    rows, columns = np.nonzero(scores >= MATCH)
    order = np.lexsort((columns, rows, scores[rows, columns]))[::-1]
    seen_true, seen_answers, pairs = set(), set(), []
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if i not in seen_true and j not in seen_answers:
            seen_true.add(i)
            seen_answers.add(j)
            pairs.append((i, j))
    return pairs


def align(want: str, said: str) -> Tally:
    """Count what became of a string's digits from a cheapest edit script.

    What is missing here and too much there counts as out of order where it is a stretch of `SHORTEST_MOVE` digits
    or more, or where both strings have the same digits.
    """
    matched = _aligned(want, said)
    right = sum(want[i] == said[j] for i, j in matched)
    if Counter(want) == Counter(said):
        return Tally(right=right, disordered=len(want) - right)
    kept_true, kept_said = ({pair[side] for pair in matched if want[pair[0]] == said[pair[1]]} for side in (0, 1))
    moved_true, moved_said = _moved(want, kept_true, said, kept_said)
    misread = sum(want[i] != said[j] and i not in moved_true and j not in moved_said for i, j in matched)
    return Tally(
        right=right,
        disordered=len(moved_true),
        misread=misread,
        missing=len(want) - right - len(moved_true) - misread,
        extra=len(said) - right - len(moved_said) - misread,
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table, and whether sheets with boxes (True) or without (False) fill it."""

    count: str
    head: str
    boxed: tuple[bool, ...]


COLUMNS = (
    _Column("right", "right", (True, False)),
    _Column("no_ink", "no ink", (True,)),
    _Column("ruled", "to a rule", (True,)),
    _Column("cut", "cut", (True,)),
    _Column("cut_unoffered", "cut, not offered", (True,)),
    _Column("merged", "merged", (True,)),
    _Column("merged_unoffered", "merged, not offered", (True,)),
    _Column("refused", "refused", (True,)),
    _Column("refused_unoffered", "refused, not offered", (True,)),
    _Column("missing", "missing", (False,)),
    _Column("misread", "misread", (True, False)),
    _Column("disordered", "out of order", (True, False)),
    _Column("fragments", "+ fragments", (True,)),
    _Column("invented", "+ invented", (True,)),
    _Column("extra", "+ extra", (False,)),
)


def _padded(row: list[str], widths: list[int]) -> list[str]:
    """Cells as wide as their columns: the first to the left, counts to the right."""
    return [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]


def _load_truth(path: Path) -> dict[str, dict[str, Any]]:
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}): a labelled set has images/ and it") from error
    except ValueError as error:
        raise DatasetError(f"{path} is no JSON ({error}): make the set again") from error
    if not isinstance(truth, dict) or not all(isinstance(entry, dict) for entry in truth.values()):
        raise DatasetError(f'{path} does not map file names to {{"digits", "boxes"}}: make the set again')
    return truth


def _in_batches(found: list[sheets.Sheet]) -> Iterator[tuple[list[str], list[list[Page]]]]:
    """Names and pages of a few sheets at a time."""
    names: list[str] = []
    pages: list[list[Page]] = []
    for sheet in found:
        if sheet.error is not None:
            raise SheetError(sheet.error)
        names.append(Path(sheet.source).name)
        pages.append(list(sheets.load(sheet.origin, source=sheet.source)))
        if sum(len(own) for own in pages) >= PAGES_AT_ONCE:
            yield names, pages
            names, pages = [], []
    if names:
        yield names, pages


def _read(scanner: Scanner, pages: list[list[Page]]) -> list[list[Digit]]:
    """The digits of each sheet, all of its pages one after another, read as one batch."""
    readings = iter(scanner.read_pages([page for own in pages for page in own]))
    return [[digit for _ in own for *_, digit in next(readings).digits()] for own in pages]


def _examine(
    name: str, entry: dict[str, Any], pages: list[Page], answers: list[Digit], scanner: Scanner
) -> SheetLosses:
    group = str(entry.get("kind") or "")
    want = entry.get("digits")
    if entry.get("boxes") is None:
        return SheetLosses(name, group, False, align(want or "", "".join(str(a.value) for a in answers)))
    try:
        truth = [(int(value), Box(*(round(v) for v in box))) for value, *box in entry["boxes"]]
    except (TypeError, ValueError) as error:
        raise DatasetError(f"truth.json, {name}: no box of [digit, left, top, width, height] ({error})") from error
    ordered = want is not None and want == "".join(str(value) for value, _ in truth)
    view = _View.of(scanner.offer(pages[0]), detected=scanner.detects)
    return SheetLosses(name, group, True, _boxed(truth, answers, view, ordered=ordered))


def _boxed(truth: Truth, answers: list[Digit], view: _View, *, ordered: bool) -> Tally:
    """What became of digits whose boxes are known."""
    true, said = _corners([box for _, box in truth]), _corners([answer.box for answer in answers])
    pairs = dict(match_boxes([box for _, box in truth], [answer.box for answer in answers]))
    right = {i for i, j in pairs.items() if truth[i][0] == answers[j].value}
    in_order = _in_order({i: pairs[i] for i in right}) if ordered else right
    counts: Counter[str] = Counter(right=len(in_order), disordered=len(right) - len(in_order))
    shared = shared_area(true[:, None], said[None])
    swallowed = shared >= COVERED * _areas(true)[:, None]
    near = shared >= TOUCHED * np.minimum(_areas(true)[:, None], _areas(said)[None, :])
    wrong = [i for i in range(len(truth)) if i not in right]
    for i in wrong:
        others = [k for k in wrong if k != i]
        merged = bool((swallowed[i] & swallowed[others].any(axis=0)).any()) if others else False
        answer = said[pairs[i]] if i in pairs else None
        counts[_cause(true[i], answer, view, merged=merged, touched=bool(near[i].any()))] += 1
    spare = sorted(set(range(len(answers))) - set(pairs.values()))
    fragments = sum(bool(near[:, j].any()) for j in spare)
    return Tally(**counts, fragments=fragments, invented=len(spare) - fragments)


def _cause(
    true: NDArray[np.float64], answer: NDArray[np.float64] | None, view: _View, *, merged: bool, touched: bool
) -> str:
    """The field of `Tally` that a digit counts for which did not come out right.

    Args:
        true: (4,), corners of its box in page pixels.
        answer: (4,), corners of the answer that belongs to it, if one does; its value is wrong then.
        view: the page's ink and candidates.
        merged: whether an answer covers this digit and another that did not come out right either.
        touched: whether any answer has to do with it.
    """
    pen, rules = view.ink_in(true)
    if pen + rules < LITTLE_INK * view.draft.ink.stroke * view.longer(true):
        return "no_ink"
    if rules > RULED * (pen + rules):
        return "ruled"
    if merged:
        kind = "merged"
    elif answer is not None:
        same = float(_ious(true[None], answer[None])[0, 0]) >= SAME_PLACE
        if same or view.ink_in(_common(true, answer))[0] >= BROKEN * pen:
            return "misread"
        kind = "cut"
    else:
        kind = "cut" if touched else "refused"
    return kind if view.offers(true) else f"{kind}_unoffered"


@dataclass(frozen=True, slots=True)
class _View:
    """A page's ink and candidates, asked about in page pixels.

    Attributes:
        draft: with every candidate.
        corners: float64 (N, 4), of the candidates, or of a detector's places, in page pixels.
        places: for each candidate its run and its index in it; none for a detector's places.
    """

    draft: Draft
    corners: NDArray[np.float64]
    places: list[tuple[int, int]]

    @staticmethod
    def of(draft: Draft, *, detected: bool) -> _View:
        if detected:
            return _View(draft, _corners([place.box for place in draft.places]) / draft.ink.scale, [])
        places = [(r, c) for r, run in enumerate(draft.runs) for c in range(len(run.candidates))]
        corners = _corners([draft.runs[r].candidates[c].box for r, c in places]) / draft.ink.scale
        return _View(draft, corners, places)

    def longer(self, box: NDArray[np.float64]) -> float:
        """The longer side of a box in working pixels."""
        return float(max(box[2] - box[0], box[3] - box[1])) * self.draft.ink.scale

    def ink_in(self, box: NDArray[np.float64]) -> tuple[int, int]:
        """Working pixels of pen and of rules in a box."""
        left, top, right, bottom = self._working(box)
        area = slice(top, bottom), slice(left, right)
        ink = self.draft.ink
        return int(np.count_nonzero(ink.pen[area])), int(np.count_nonzero(ink.rules[area]))

    def offers(self, box: NDArray[np.float64]) -> bool:
        """Whether some candidate is the digit in a box: stands just there, or holds its ink and little else."""
        if not len(self.corners):
            return False
        ious = _ious(box[None], self.corners)[0]
        if ious.max() >= (SAME_PLACE if self.places else MATCH):
            return True
        if not self.places:  # a detector says where a digit is, not which ink is its
            return False
        pen, _ = self.ink_in(box)
        left, top, right, bottom = self._working(box)
        for k in np.flatnonzero(ious > 0):
            run, index = self.places[k]
            candidate = self.draft.runs[run].candidates[index]
            x, y = candidate.box.left, candidate.box.top
            held = candidate.mask[max(0, top - y) : max(0, bottom - y), max(0, left - x) : max(0, right - x)]
            inside = int(np.count_nonzero(held))
            if inside >= WHOLE * pen and inside >= PURE * np.count_nonzero(candidate.mask):
                return True
        return False

    def _working(self, box: NDArray[np.float64]) -> tuple[int, int, int, int]:
        left, top, right, bottom = box * self.draft.ink.scale
        return int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))


def _corners(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Left, top, right, bottom: float64 (N, 4)."""
    return np.array([[b.left, b.top, b.right, b.bottom] for b in boxes], np.float64).reshape(-1, 4)


def _areas(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]), dtype=np.float64)


def _common(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of what two boxes share; of no extent where they share nothing."""
    low = np.maximum(a[:2], b[:2])
    return np.concatenate([low, np.maximum(np.minimum(a[2:], b[2:]), low)])


def _ious(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each of N boxes with each of M: float64 (N, M)."""
    shared = shared_area(a[:, None], b[None])
    return np.asarray(shared / (_areas(a)[:, None] + _areas(b)[None, :] - shared), dtype=np.float64)


def _overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union; `MATCH` at least where each box holds the other's centre: float64 (N, M)."""
    ious = _ious(a, b)
    middle_a, middle_b = (a[:, :2] + a[:, 2:]) / 2, (b[:, :2] + b[:, 2:]) / 2
    a_holds = ((middle_b[None] >= a[:, None, :2]) & (middle_b[None] <= a[:, None, 2:])).all(axis=2)
    b_holds = ((middle_a[:, None] >= b[None, :, :2]) & (middle_a[:, None] <= b[None, :, 2:])).all(axis=2)
    return np.where(a_holds & b_holds & (ious > 0), np.maximum(ious, MATCH), ious)


def _in_order(pairs: dict[int, int]) -> set[int]:
    """The largest set of true digits whose answers come in the same order: a longest rising subsequence."""
    lasts: list[int] = []  # the smallest answer that ends a rising sequence of each length
    holders: list[int] = []
    before: dict[int, int | None] = {}
    for i in sorted(pairs):
        k = bisect_left(lasts, pairs[i])
        before[i] = holders[k - 1] if k else None
        lasts[k : k + 1] = [pairs[i]]
        holders[k : k + 1] = [i]
    chain, here = set(), holders[-1] if holders else None
    while here is not None:
        chain.add(here)
        here = before[here]
    return chain


def _aligned(want: str, said: str) -> list[tuple[int, int]]:
    """Pairs (place in `want`, place in `said`) that a cheapest edit script keeps or exchanges."""
    cost = [[SKIP * j for j in range(len(said) + 1)]]
    for i, true in enumerate(want):
        row = [SKIP * (i + 1)]
        for j, answer in enumerate(said):
            row.append(min(cost[i][j] + EXCHANGE * (true != answer), cost[i][j + 1] + SKIP, row[j] + SKIP))
        cost.append(row)
    pairs = []
    i, j = len(want), len(said)
    while i and j:
        if cost[i][j] == cost[i - 1][j - 1] + EXCHANGE * (want[i - 1] != said[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif cost[i][j] == cost[i - 1][j] + SKIP:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _moved(want: str, kept_true: set[int], said: str, kept_said: set[int]) -> tuple[set[int], set[int]]:
    """Places of stretches that stand elsewhere in the answer, longest first, among what is not kept."""
    # Two marks that never equal each other stand for what is kept, so no stretch runs across it.
    a = "".join("<" if k in kept_true else c for k, c in enumerate(want))
    b = "".join(">" if k in kept_said else c for k, c in enumerate(said))
    moved_true: set[int] = set()
    moved_said: set[int] = set()
    while True:
        found = SequenceMatcher(None, a, b, autojunk=False).find_longest_match()
        if found.size < SHORTEST_MOVE:
            return moved_true, moved_said
        moved_true |= set(range(found.a, found.a + found.size))
        moved_said |= set(range(found.b, found.b + found.size))
        a = a[: found.a] + "<" * found.size + a[found.a + found.size :]
        b = b[: found.b] + ">" * found.size + b[found.b + found.size :]
