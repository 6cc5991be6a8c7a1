"""Places weighed against everything else on their page."""

from __future__ import annotations

import re
import shutil
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
    assert examples.sheet.tolist() == [0, 0, 0, 1, 1]
    assert sorted(zip(examples.sheet.tolist(), examples.digit.tolist(), strict=True)) == [
        (0, False),
        (0, True),
        (0, True),
        (1, False),
        (1, True),
    ]
    assert examples.features.shape == (5, context.COUNT)
    assert (examples.sheets, gather(scanner(), []).sheets) == (2, 0)


def test_what_the_page_tells_is_learnt(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """On these sheets the last digit is no digit; nothing about it tells so but its being the last."""
    sheets = [made("".join(str(d) for d in rng.integers(0, 10, rng.integers(3, 6)))) for _ in range(40)]
    monkeypatch.setattr(learn_context, "made_sheets", lambda *_, **__: iter(sheets))
    monkeypatch.setattr(learn_context, "EPOCHS", 150)
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
