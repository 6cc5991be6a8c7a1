"""Places weighed against everything else on their page."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from stub import Paper, Stub, StubDetector, texts, write_model

from digitize import context, learn_context, models
from digitize.context import Context, features
from digitize.detect import Detector
from digitize.errors import DatasetError, ModelError
from digitize.learn_context import fit, gather, learn
from digitize.make import MadePage, Sources
from digitize.make.canvas import MadeDigit
from digitize.records import Box, Page, Place
from digitize.scan import Scanner, Settings

PAGE = (1000, 800)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def place(left: int, seen: float, *, top: int = 100, height: int = 20, value: int = 3, sure: float = 0.9) -> Place:
    digits = np.full(10, (1 - sure) / 9)
    digits[value] = sure
    return Place(Box(left, top, 12, height), seen, digits)


def straight(*weights: float) -> Context:
    """One layer, without any scaling."""
    width = context.COUNT
    column = np.zeros((width, 1))
    column[: len(weights), 0] = weights
    return Context(np.zeros(width), np.ones(width), ((column, np.zeros(1)),))


def test_a_context_that_looks_at_nothing_else_leaves_a_place_as_it_is() -> None:
    places = [place(20 * k, seen) for k, seen in enumerate((0.1, 0.5, 0.99))]
    rescored = straight(1.0).rescored(places, PAGE)
    assert [one.seen for one in rescored] == pytest.approx([0.1, 0.5, 0.99])
    assert [one.box for one in rescored] == [one.box for one in places]


@pytest.mark.parametrize("shape", [(120, 100), (800, 600), (3500, 2480)])
def test_a_lone_digit_that_is_clearly_seen_is_reported_on_any_page(shape: tuple[int, int]) -> None:
    """Paper has nothing against a digit in it; the shipped detector's context was fitted on small made sheets."""
    card = models.load_card(models.find(models.DEFAULT_DETECTOR))
    learnt = Context.from_card(card.content)
    assert learnt is not None
    (alone,) = learnt.rescored([place(40, 0.95, height=40, sure=0.99)], shape)
    assert alone.seen > 0.8


@pytest.mark.parametrize("value", range(10))
def test_a_sheet_of_one_digit_alone_is_reported(value: int, rng: np.random.Generator) -> None:
    """That all is alike says that it may be printed, but sheets of zeros and of ones are common."""
    learnt = Context.from_card(models.load_card(models.find(models.DEFAULT_DETECTOR)).content)
    assert learnt is not None
    places = [
        Place(
            Box(60 * k + int(rng.integers(8)), 70 * line, int(rng.integers(18, 30)), int(rng.integers(34, 44))),
            0.95,
            one,
        )
        for line in range(1, 9)
        for k in range(1, 16)
        for one in [place(0, 1.0, value=value, sure=0.98).digits]
    ]
    assert sum(one.seen > 0.5 for one in learnt.rescored(places, PAGE)) >= 0.95 * len(places)


def test_of_no_places_nothing_comes() -> None:
    assert straight(1.0).rescored([], PAGE) == []


def test_the_order_of_places_does_not_matter(rng: np.random.Generator) -> None:
    places = [
        place(int(rng.integers(700)), float(rng.random()), top=int(rng.integers(900)), height=int(rng.integers(15, 40)))
        for _ in range(40)
    ]
    order = rng.permutation(len(places))
    told = features(places, PAGE)
    np.testing.assert_allclose(features([places[k] for k in order], PAGE), told[order])


def test_size_does_not_matter_where_the_page_grows_with_it() -> None:
    places = [place(30 * k, 0.2 + 0.1 * k, top=50 + 7 * k) for k in range(6)]
    doubled = [
        Place(Box(2 * b.left, 2 * b.top, 2 * b.width, 2 * b.height), one.seen, one.digits)
        for one, b in ((one, one.box) for one in places)
    ]
    np.testing.assert_allclose(features(doubled, (2000, 1600)), features(places, PAGE), atol=1e-9)


def test_what_stands_in_the_row_counts_there_and_what_stands_above_in_the_column() -> None:
    rows = [place(100, 0.5), place(130, 0.9)]
    columns = [place(100, 0.5), place(100, 0.9, top=140)]
    first = len(features([], PAGE).T) - 2 * len(context.REACHES)
    in_row, in_column = features(rows, PAGE)[0, first:], features(columns, PAGE)[0, first:]
    near_row, column = 0, 2 * 2
    assert in_row[near_row] > 10 * in_column[near_row]
    assert in_column[column] > 5 * in_row[column]
    assert in_row[near_row] > 5 * in_row[near_row + 1]  # as a digit, more than as none


def test_what_is_far_away_or_of_another_size_hardly_counts() -> None:
    first = len(features([], PAGE).T) - 2 * len(context.REACHES)
    far = features([place(10, 0.5), place(10 + 20 * 13, 0.9)], PAGE)[0, first:]
    tall = features([place(100, 0.5), place(130, 0.9, height=60)], PAGE)[0, first:]
    assert far.max() == 0.0
    assert tall.max() < 0.01


COMPARED = slice(context.OWN, context.OWN + context.COMPARED)


def test_a_place_is_compared_with_its_line() -> None:
    """A slash between digits stands out of their line above and below, and is none of them."""
    line = [place(100, 0.9), place(130, 0.9, value=1, top=90, height=40), place(160, 0.9), place(190, 0.9)]
    slash, digit = features(line, PAGE)[[1, 3], COMPARED]
    taller, tops, feet, same = range(4)
    assert slash[taller] == pytest.approx(np.log(20 / 40), abs=0.01)
    assert slash[tops] == pytest.approx(10 / 40, abs=0.01)
    assert slash[feet] == pytest.approx(-10 / 40, abs=0.01)
    assert abs(digit[[taller, tops, feet]]).max() < abs(slash[[taller, tops, feet]]).min()
    assert slash[same] < 0.1 < 0.5 < digit[same]


def test_a_speck_within_a_tall_digit_is_not_compared_beyond_measure() -> None:
    speck = features([place(100, 0.9, top=195, height=6), place(90, 0.9, height=200)], PAGE)[0, COMPARED]
    assert abs(speck[1:3]).max() <= context.MOST_OFF


def test_what_is_printed_is_more_alike_than_what_is_written(rng: np.random.Generator) -> None:
    def zeros(heights: list[int], widths: list[int]) -> list[Place]:
        digits = place(0, 1.0, value=0).digits
        return [
            Place(Box(100 + 22 * (k % 8), 100 + 26 * (k // 8), width, height), 0.9, digits)
            for k, (height, width) in enumerate(zip(heights, widths, strict=True))
        ]

    printed = features(zeros([20] * 32, [14] * 32), PAGE)[:, COMPARED]
    written = features(zeros(rng.integers(16, 26, 32).tolist(), rng.integers(10, 18, 32).tolist()), PAGE)[:, COMPARED]
    share, many, height, width = range(4, 8)
    assert printed[:, [height, width]] == pytest.approx(0)
    assert written[:, [height, width]].min() > 0.05
    assert printed[:, share].min() > 0.7
    assert printed[:, many].max() == pytest.approx(np.log1p(context.MOST_ALIKE))


def test_nothing_in_the_line_compares_as_nothing() -> None:
    alone = features([place(100, 0.9)], PAGE)[0, COMPARED]
    faint = features([place(100, 0.9), place(130, 0.001, height=60)], PAGE)[0, COMPARED]
    assert alone.tolist() == [0.0] * context.COMPARED
    assert abs(faint).max() < 0.02


def test_neighbours_are_found_whatever_is_looked_at_together(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    places = [place(int(rng.integers(700)), 0.5, top=int(rng.integers(900))) for _ in range(50)]
    whole = features(places, PAGE)
    monkeypatch.setattr(context, "AT_ONCE", 7)
    np.testing.assert_allclose(features(places, PAGE), whole)


def test_a_card_gives_back_what_went_in(rng: np.random.Generator) -> None:
    learnt = fit(rng.normal(size=(200, features([], PAGE).shape[1])), rng.random(200) < 0.5)
    again = Context.from_card({"context": learnt.to_card()})
    assert again is not None
    places = [place(30 * k, 0.2 + 0.1 * k) for k in range(6)]
    told = [[one.seen for one in each.rescored(places, PAGE)] for each in (learnt, again)]
    assert told[0] == pytest.approx(told[1], abs=0.01)
    assert Context.from_card({}) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"features": "places/0"}, "places/0"),
        ({"layers": []}, "no network"),
        ({"mean": "none"}, "no usable context"),
        ({"mean": [0.0]}, "no usable context"),
        ({"mean": " ".join(["nan"] * context.COUNT)}, "no network"),
        ({"spread": " ".join(["0"] * context.COUNT)}, "no network"),
        ({"layers": [{"weights": ["1 2"], "biases": "0 0"}]}, "no network"),
        ({"layers": [{"weights": ["1"] * (context.COUNT - 1), "biases": "0"}]}, "no network"),
    ],
)
def test_a_damaged_card_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Context.from_card({"context": {**straight(1.0).to_card(), **change}})


@pytest.mark.parametrize("change", [{"features": "places/0"}, {"layers": []}, {"mean": "none"}])
def test_a_detector_with_a_damaged_card_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    folder = tmp_path / "finder"
    shutil.copytree(models.find(models.DEFAULT_DETECTOR), folder)
    content = models.load_card(folder).content
    models.write_card(folder, {**content, "context": {**content["context"], **change}})
    with pytest.raises(ModelError, match=f"^{re.escape(str(folder / models.CARD_FILE))} ") as refused:
        Detector(folder, device="cpu", threads=1)
    assert "digitize calibrate --context" in str(refused.value)


def written(text: str) -> Paper:
    paper = Paper(90, 60 + 45 * len(text))
    paper.number(text, 30, 30, height=30)
    return paper


def made(text: str) -> MadePage:
    """A sheet of drawn digits, the last of which its truth does not know."""
    drawn = written(text)
    digits = tuple(
        MadeDigit(int(digit), box, 1, k) for k, (digit, box) in enumerate(zip(text, drawn.boxes, strict=True))
    )
    return MadePage("lines", drawn.gray(), np.zeros(drawn.gray().shape, np.uint16), digits[:-1])


def scanner() -> Scanner:
    return Scanner(Stub(), detector=StubDetector(), settings=Settings(rotate="off"))


def test_places_are_held_to_the_truth() -> None:
    examples = gather(scanner(), [made("904"), made("17")])
    assert examples.sheet[:5].tolist() == [0, 0, 0, 1, 1]
    assert sorted(zip(examples.sheet[:5].tolist(), examples.digit[:5].tolist(), strict=True)) == [
        (0, False),
        (0, True),
        (0, True),
        (1, False),
        (1, True),
    ]
    assert examples.features.shape == (10, context.COUNT)
    assert (examples.sheets, gather(scanner(), []).sheets) == (2, 0)


def test_every_place_is_seen_again_on_a_page_with_other_sheets_and_is_what_it_was() -> None:
    examples = gather(scanner(), [made("904"), made("17")])
    own, others = slice(0, 6), 11  # what a place is by itself; the log of 1 and how many other places there are
    alone, together = np.arange(5), 5 + np.argsort(examples.sheet[5:], kind="stable")
    assert len({tuple(row) for row in np.round(examples.features[alone, own], 6)}) > 1
    np.testing.assert_allclose(examples.features[together, own], examples.features[alone, own])
    assert examples.digit[together].tolist() == examples.digit[alone].tolist()
    assert examples.seen[together].tolist() == examples.seen[alone].tolist()
    assert (examples.features[together, others] > examples.features[alone, others]).all()


def test_side_by_side_networks_give_their_mean(rng: np.random.Generator) -> None:
    def network() -> list[learn_context.Layer]:
        widths = (context.COUNT, 7, 5, 1)
        return [(0.2 * rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in itertools.pairwise(widths)]

    members = [network() for _ in range(3)]
    told = rng.normal(size=(50, context.COUNT))
    still = np.zeros(context.COUNT), np.ones(context.COUNT)

    def log_odds(layers: Sequence[learn_context.Layer]) -> np.ndarray:
        p = Context(*still, tuple(layers)).probabilities(told)
        return np.log(p / (1 - p))

    mean = np.mean([log_odds(member) for member in members], axis=0)
    np.testing.assert_allclose(log_odds(learn_context._side_by_side(members)), mean, atol=1e-6)


def test_sheets_that_judge_are_put_together_with_each_other_alone(rng: np.random.Generator) -> None:
    kinds = ["lines", "table"] * 100
    groups = list(learn_context._groups(kinds, rng))
    assert sorted(k for group in groups for k in group) == list(range(200))
    assert 4 < max(map(len, groups)) <= learn_context.MOST_SHEETS
    for group in groups:
        assert len({k % learn_context.JUDGED == learn_context.JUDGED - 1 for k in group}) == 1
    several = [len({kinds[k] for k in group}) for group in groups if len(group) > 3]
    assert 0 < several.count(2) < several.count(1)


def test_sheets_on_one_page_do_not_cover_each_other(rng: np.random.Generator) -> None:
    def sheet(rows: int, columns: int, unit: int) -> learn_context._Sheet:
        full = Box(0, 0, columns, rows)
        return learn_context._Sheet("lines", (rows, columns), unit, [Place(full, 0.5, np.full(10, 0.1))], [True])

    sheets = [sheet(100, 300, 20), sheet(400, 200, 60), sheet(50, 500, 15), sheet(90, 80, 40)]
    places, (height, width) = learn_context._together(sheets, rng)
    boxes = [one.box for one in places]
    for k, box in enumerate(boxes):
        assert box.right <= width + 1
        assert box.bottom <= height + 1
        for other in boxes[:k]:
            across = min(box.right, other.right) - max(box.left, other.left)
            down = min(box.bottom, other.bottom) - max(box.top, other.top)
            assert min(across, down) <= 1
    zoom = np.array([box.height / one.shape[0] for box, one in zip(boxes, sheets, strict=True)])
    assert np.log(zoom * [one.height for one in sheets] / learn_context.PAGE_UNIT) == pytest.approx(0, abs=0.5)


def test_what_the_page_tells_is_learnt(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """On these sheets the last digit is no digit; nothing about it tells so but its being the last."""
    sheets = [made("".join(str(d) for d in rng.integers(0, 10, rng.integers(3, 6)))) for _ in range(40)]
    monkeypatch.setattr(learn_context, "made_sheets", lambda *_, **__: iter(sheets))
    monkeypatch.setattr(learn_context, "EPOCHS", 50)
    monkeypatch.setattr(learn_context, "BATCH_SIZE", 64)
    monkeypatch.setattr(learn_context, "MEMBERS", 2)
    outcome = learn(scanner(), Sources(), count=len(sheets))
    assert outcome.sheets == 40
    last = 1 / np.mean([len(sheet.digits) + 1 for sheet in sheets])
    guessed = -(last * np.log(last) + (1 - last) * np.log(1 - last))  # what knowing their share alone would lose
    assert outcome.after < 0.5 * guessed
    monkeypatch.setattr(learn_context, "made_sheets", lambda *_, **__: iter([]))
    with pytest.raises(DatasetError, match="make more"):
        learn(scanner(), Sources(), count=0)


def test_a_scanner_reports_what_is_likely_once_all_is_known() -> None:
    page = Page("page", 1, written("904").gray())
    detector = StubDetector()
    reader = Scanner(Stub(), detector=detector)
    assert texts(reader.read_pages([page])[0]) == [["904"]]
    detector.context = straight()
    detector.context.layers[0][1][0] = -9.0  # whatever is seen is no digit
    assert texts(reader.read_pages([page])[0]) == []


def test_a_context_goes_into_the_card_and_replaces_one_that_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "finder")
    card = models.load_card(folder)
    models.write_card(folder, {**card.content, "context": {"features": "places/0"}})
    before = models.load_card(folder)
    learnt = straight(1.0)
    learn_context.store(folder, learn_context.Outcome(learnt, 6, 40, 0.5, 0.25))
    after = models.load_card(folder)
    assert after.content["context"]["fitted_on"]["sheets"] == 6
    assert Context.from_card(after.content) is not None
    assert len({"", before.context_sha256, after.context_sha256}) == 3
    learnt.mean[0] = np.nan
    with pytest.raises(ModelError, match="no network"):
        learn_context.store(folder, learn_context.Outcome(learnt, 6, 40, 0.5, 0.25))
    assert models.load_card(folder).content == after.content
