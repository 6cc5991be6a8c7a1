"""What a person says goes into the results, once, and into no others; what is no correction changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from digitize import audit, corrections, results, write
from digitize.errors import UsageError
from digitize.records import Box, Digit, Line, Number, PageReading, SheetReading

SHA = "ab" * 32


def digit(value: int, left: int, top: int = 20, *, confidence: float = 0.5) -> Digit:
    status = "review" if confidence < 0.9 else "ok"
    return Digit(value, confidence, (value + 1) % 10, 0.1, status, Box(left, top, 10, 20))


def number(text: str, left: int, top: int = 20) -> Number:
    return Number(tuple(digit(int(letter), left + 14 * k, top) for k, letter in enumerate(text)))


SHEETS = (
    SheetReading(
        "a.png",
        SHA,
        (PageReading(1, 400, 300, (Line((number("12", 10), number("345", 100))), Line((number("6", 10, 80),)))),),
    ),
    SheetReading("bad.png", "", (), "bad.png: is empty"),
    SheetReading("b.png", SHA, (PageReading(2, 400, 300, (Line((number("7", 10),)),), 90),)),
)
GENERATOR = write.Generator("0.1.0", "stub", SHA, {"dpi": 300.0})


def written(folder: Path, suffix: str) -> results.Results:
    path = folder / f"read.{suffix}"
    with write.open_output(path) as output:
        write.WRITERS[write.format_of(str(path))](SHEETS, output, GENERATOR)
    return results.load(path)


@pytest.fixture(params=["csv", "json", "jsonl"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> results.Results:
    return written(tmp_path, request.param)


def decision(read: results.Results, source: str, page: int, spot: tuple[int, int, int], now: str) -> dict[str, Any]:
    (found,) = (
        one
        for sheet in read.sheets
        for given_page in sheet.pages
        for *place, one in given_page.digits()
        if (sheet.source, given_page.number, tuple(place)) == (source, page, spot)
    )
    box = {side: getattr(found.box, side) for side in ("left", "top", "width", "height")}
    line, at, position = spot
    place = {"source": source, "page": page, "line": line, "number": at, "position": position}
    return {**place, "box": box, "was": found.value, "now": now}


def document(read: results.Results, *decisions: dict[str, Any], added: tuple[Any, ...] = ()) -> dict[str, Any]:
    about = {"name": read.path.name, "sha256": read.sha256, "digits": read.digits}
    return {
        "schema": corrections.SCHEMA,
        "results": about,
        "audit": None,
        "decisions": list(decisions),
        "added": list(added),
    }


def load(folder: Path, content: Any) -> corrections.Corrections:
    path = folder / "corrections.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return corrections.load(path)


def addition(left: int, top: int, now: str = "8", source: str = "a.png") -> dict[str, Any]:
    return {"source": source, "page": 1, "box": {"left": left, "top": top, "width": 10, "height": 20}, "now": now}


def texts(found: results.Results) -> list[list[list[str]]]:
    return [
        [[one.text for one in line.numbers] for page in sheet.pages for line in page.lines]
        for sheet in found.sheets
        if sheet.pages
    ]


def test_what_was_written_reads_back_whole(tmp_path: Path) -> None:
    for suffix in ("json", "jsonl"):
        read = written(tmp_path, suffix)
        assert read.sheets == SHEETS
        assert read.digits == 7
    assert written(tmp_path, "json").generator == GENERATOR
    assert [sheet.source for sheet in written(tmp_path, "csv").sheets] == ["a.png", "b.png"]


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_results_written_again_are_the_same_file(tmp_path: Path, suffix: str) -> None:
    read = written(tmp_path, suffix)
    results.save(read, str(tmp_path / f"again.{suffix}"))
    assert (tmp_path / f"again.{suffix}").read_bytes() == read.path.read_bytes()


def test_a_csv_does_not_become_json(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not hold what JSON needs"):
        results.save(written(tmp_path, "csv"), str(tmp_path / "out.json"))
    results.save(written(tmp_path, "json"), str(tmp_path / "out.csv"))
    assert (tmp_path / "out.csv").read_bytes() == written(tmp_path, "csv").path.read_bytes()


def test_digits_are_corrected_confirmed_split_and_removed(read: results.Results, tmp_path: Path) -> None:
    said = load(
        tmp_path,
        document(
            read,
            decision(read, "a.png", 1, (1, 1, 1), "9"),
            decision(read, "a.png", 1, (1, 1, 2), "2"),
            decision(read, "a.png", 1, (1, 2, 2), "47"),
            decision(read, "a.png", 1, (1, 2, 3), ""),
            decision(read, "b.png", 2, (1, 1, 1), ""),
        ),
    )
    outcome = corrections.apply(read, said)
    assert texts(outcome.results) == [[["92", "347"], ["6"]], []]
    counted = (outcome.corrected, outcome.confirmed, outcome.removed, outcome.added, outcome.left)
    assert counted == (2, 1, 2, 0, 2)
    first, second, third, *halves, last = [one for *_, one in outcome.results.sheets[0].pages[0].digits()]
    assert (first.status, first.confidence, first.alternative) == ("corrected", 1.0, 1)
    assert (second.status, second.confidence) == ("confirmed", 1.0)
    assert third == read.sheets[0].pages[0].lines[0].numbers[1].digits[0]
    assert [half.box for half in halves] == [Box(114, 20, 5, 20), Box(119, 20, 5, 20)]
    assert last.status == "review"


@pytest.mark.parametrize(
    ("left", "top", "expected"),
    [
        (126, 20, [["12", "3485"], ["6"]]),  # between two digits
        (38, 22, [["128", "345"], ["6"]]),  # at the end of a number
        (70, 18, [["12", "8", "345"], ["6"]]),  # a number of its own
        (10, 50, [["12", "345"], ["8"], ["6"]]),  # a line of its own
        (10, 200, [["12", "345"], ["6"], ["8"]]),
        (60, 82, [["12", "345"], ["6", "8"]]),
    ],
)
def test_an_added_digit_joins_what_it_stands_at(
    read: results.Results, tmp_path: Path, left: int, top: int, expected: list[list[str]]
) -> None:
    outcome = corrections.apply(read, load(tmp_path, document(read, added=(addition(left, top),))))
    assert texts(outcome.results)[0] == expected
    assert outcome.added == 1


def test_a_digit_is_added_to_a_blank_page(tmp_path: Path) -> None:
    blank = SheetReading("a.png", SHA, (PageReading(1, 50, 50, ()),))
    read = replace(written(tmp_path, "json"), sheets=(blank,))
    outcome = corrections.apply(read, load(tmp_path, document(read, added=(addition(5, 5),))))
    assert texts(outcome.results) == [[["8"]]]


def some(read: results.Results) -> dict[str, Any]:
    return document(
        read,
        decision(read, "a.png", 1, (1, 1, 1), "9"),
        decision(read, "a.png", 1, (1, 2, 1), "3"),
        decision(read, "a.png", 1, (1, 2, 2), "41"),
        decision(read, "b.png", 2, (1, 1, 1), ""),
        added=(addition(60, 82),),
    )


def test_applied_twice_changes_nothing(read: results.Results, tmp_path: Path) -> None:
    said = load(tmp_path, some(read))
    once, twice = tmp_path / f"once.{read.form}", tmp_path / f"twice.{read.form}"
    results.save(corrections.apply(read, said).results, str(once))
    outcome = corrections.apply(results.load(once), said)
    results.save(outcome.results, str(twice))
    assert outcome.again
    assert once.read_bytes() == twice.read_bytes() != read.path.read_bytes()


def test_corrected_results_are_by_the_schema(tmp_path: Path) -> None:
    read = written(tmp_path, "json")
    results.save(corrections.apply(read, load(tmp_path, some(read))).results, str(tmp_path / "out.json"))
    jsonschema.validate(json.loads((tmp_path / "out.json").read_text()), write.schema())


def test_what_was_decided_on_stays_in_a_second_round(tmp_path: Path) -> None:
    read = written(tmp_path, "json")
    results.save(corrections.apply(read, load(tmp_path, some(read))).results, str(tmp_path / "once.json"))
    once = results.load(tmp_path / "once.json")
    more = load(tmp_path, document(once, decision(once, "a.png", 1, (1, 1, 2), "5")))
    results.save(corrections.apply(once, more).results, str(tmp_path / "twice.json"))
    twice = results.load(tmp_path / "twice.json")
    assert texts(twice)[0] == [["95", "3415"], ["6", "8"]]
    assert corrections.apply(twice, more).again


def test_corrections_of_other_results_are_refused(read: results.Results, tmp_path: Path) -> None:
    said = load(tmp_path, some(read))
    other = tmp_path / f"other.{read.form}"
    other.write_text(read.path.read_text().replace("0.5", "0.6"))
    with pytest.raises(UsageError, match="belong to other results"):
        corrections.apply(results.load(other), said)
    once = corrections.apply(read, said).results
    with pytest.raises(UsageError, match="belong to other results"):
        corrections.apply(replace(once, sha256="0" * 64, sheets=once.sheets[:1] * 2), said)


def test_removals_alone_are_known_again(read: results.Results, tmp_path: Path) -> None:
    said = load(tmp_path, document(read, decision(read, "b.png", 2, (1, 1, 1), "")))
    once = replace(corrections.apply(read, said).results, sha256="0" * 64)
    assert corrections.apply(once, said).again
    fewer = replace(read, sha256="0" * 64, sheets=read.sheets[1:])
    with pytest.raises(UsageError):
        corrections.apply(fewer, said)


def change(content: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    made: Any = json.loads(json.dumps(content))
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return made


WRONG: list[tuple[tuple[Any, ...], Any]] = [
    (("schema",), "digitize-corrections/2"),
    (("results", "sha256"), "AB"),
    (("results", "digits"), -1),
    (("decisions",), {}),
    (("decisions", 0, "now"), "1a"),
    (("decisions", 0, "now"), "１"),
    (("decisions", 0, "now"), "123456789"),
    (("decisions", 0, "now"), "7\n"),
    (("decisions", 0, "now"), "\n"),
    (("decisions", 0, "now"), 7),
    (("decisions", 0, "was"), True),
    (("decisions", 0, "was"), 10),
    (("decisions", 0, "page"), 0),
    (("decisions", 0, "box", "width"), 0),
    (("decisions", 0, "box", "left"), -1),
    (("decisions", 0, "extra"), 1),
    (("added", 0, "now"), ""),
    (("added", 0, "now"), "7\n"),
    (("added", 0, "box", "left"), 1.5),
    (("added", 0, "box"), None),
    (("audit",), {"share": 0, "accepted": 1}),
    (("extra",), 1),
]


@pytest.mark.parametrize(("path", "to"), WRONG, ids=str)
def test_what_does_not_fit_the_schema_is_refused(tmp_path: Path, path: tuple[Any, ...], to: Any) -> None:
    content = some(written(tmp_path, "json"))
    load(tmp_path, content)
    with pytest.raises(UsageError, match="schema of corrections"):
        load(tmp_path, change(content, *path, to=to))


def test_whole_numbers_may_be_written_with_a_point(read: results.Results, tmp_path: Path) -> None:
    plain = some(read)
    pointed = json.dumps(plain).replace('"was": 1,', '"was": 1.0,').replace('"left": 60,', '"left": 60.0,')
    assert pointed != json.dumps(plain)
    assert load(tmp_path, pointed) == load(tmp_path, plain)
    outcome = corrections.apply(read, load(tmp_path, pointed))
    results.save(outcome.results, str(tmp_path / "pointed.csv"))
    assert ",60,82,10,20" in (tmp_path / "pointed.csv").read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", '{"schema": NaN}', "[" * 100_000, "\ufeff{}"])
def test_what_is_no_corrections_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"corrections\.json"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("path", "to", "match"),
    [
        (("decisions", 0, "position"), 7, "no digit at"),
        (("decisions", 0, "source"), "c.png", "no digit at"),
        (("decisions", 0, "was"), 5, "there stands 1"),
        (("decisions", 0, "box", "left"), 11, "there stands 1"),
        (("added", 0, "source"), "c.png", "no page 1"),
    ],
    ids=str,
)
def test_what_contradicts_the_results_is_refused(
    read: results.Results, tmp_path: Path, path: tuple[Any, ...], to: Any, match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        corrections.apply(read, load(tmp_path, change(some(read), *path, to=to)))


def test_a_digit_is_not_added_beside_the_page(tmp_path: Path) -> None:
    read = written(tmp_path, "json")
    with pytest.raises(UsageError, match="does not lie on the page"):
        corrections.apply(read, load(tmp_path, document(read, added=(addition(395, 20),))))


def test_two_decisions_about_one_digit_are_refused(tmp_path: Path) -> None:
    read = written(tmp_path, "json")
    once = decision(read, "a.png", 1, (1, 1, 1), "9")
    with pytest.raises(UsageError, match="decides twice"):
        load(tmp_path, document(read, once, {**once, "now": "3"}))


@given(st.integers(0, 500), st.integers(1, 300), st.integers(1, 8))
def test_a_box_is_cut_into_boxes_within_it(left: int, width: int, count: int) -> None:
    boxes = corrections.split_box(Box(left, 3, width, 9), count)
    assert len(boxes) == count
    assert all(left <= box.left and box.right <= left + width for box in boxes)
    assert boxes == sorted(boxes)


def test_what_rules_said_of_other_numbers_stays(tmp_path: Path) -> None:
    read = written(tmp_path, "json")
    page = read.sheets[0].pages[0]
    first, second = page.lines[0].numbers
    failing = [replace(one, failed=("luhn",), proposal=one.text[::-1]) for one in (first, second)]
    lines = (Line(tuple(failing)), page.lines[1])
    marked = replace(read, sheets=(replace(read.sheets[0], pages=(replace(page, lines=lines),)), *read.sheets[1:]))
    outcome = corrections.apply(marked, load(tmp_path, document(read, decision(read, "a.png", 1, (1, 1, 1), "9"))))
    changed, kept = outcome.results.sheets[0].pages[0].lines[0].numbers
    assert (changed.failed, changed.proposal) == ((), "")
    assert kept == failing[1]


# The audit sample


def test_the_audit_counts_the_sample_alone(tmp_path: Path) -> None:
    read = written(tmp_path, "json")
    wrong = {**decision(read, "a.png", 1, (1, 1, 1), "9"), "audit": True}
    right = {**decision(read, "a.png", 1, (1, 1, 2), "2"), "audit": True}
    other = decision(read, "a.png", 1, (1, 2, 1), "0")
    content = {**document(read, wrong, right, other), "audit": {"share": 0.5, "accepted": 4}}
    said = load(tmp_path, content).estimate()
    assert said is not None
    assert (said.wrong, said.looked, said.accepted) == (1, 2, 4)
    assert "1 of 2 accepted digits wrong" in str(corrections.apply(read, load(tmp_path, content)))
    assert load(tmp_path, document(read, other)).estimate() is None


@given(st.integers(0, 200), st.integers(1, 200))
@example(0, 75)  # rounding once put the lower end a hair above 0
def test_an_interval_holds_the_share(wrong: int, more: int) -> None:
    found = audit.estimate(wrong, wrong + more, 1000)
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert found.low < found.high


def test_intervals_are_wilsons() -> None:
    """Values of Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3."""
    for wrong, looked, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        found = audit.estimate(wrong, looked, 1000)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_sample_is_as_large_as_was_asked_for() -> None:
    drawn = [audit.is_drawn(0.02, "sheet.png", 1, k) for k in range(20_000)]
    assert 330 < sum(drawn) < 470
    assert all(audit.is_drawn(1.0, "sheet.png", 1, k) for k in range(100))


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.02", 0.02), ("100%", 1.0), ("1", 1.0)])
def test_shares_are_read(text: str, share: float) -> None:
    assert audit.parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "0", "0%", "101%", "-1", "nan", "two"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--audit"):
        audit.parse_share(text)
