"""Ink from paper: whatever was drawn is found again, whatever is paper, shadow or ruling is not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from stub import Paper, digit_mask

from digitize.clean import INK_SHADE, Ink, digit_height, extract_ink, find_rules, stroke_width
from digitize.records import Box, Gray, Mask

KEPT = 0.9  # share of the middle of the planted strokes that has to be found
STRAY = 0.02  # share of the found ink that may lie off the planted digits


def on_page(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """A working mask at the page's size."""
    return cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


def kept(ink: Ink, digits: Paper) -> float:
    """The share of the drawn digits' solid ink that came out as ink."""
    solid = digits.ink > 0.9
    return float(on_page(ink.pen, digits.ink.shape)[solid].mean())


def kept_in(ink: Ink, digits: Paper, box: Box) -> float:
    """The same for one digit, edges included."""
    view = np.s_[box.top : box.bottom, box.left : box.right]
    return float(on_page(ink.pen, digits.ink.shape)[view][digits.ink[view] > 0.7].mean())


def stray(ink: Ink, digits: Paper) -> float:
    """The share of the ink that lies where nothing was drawn, at more than two pixels from it."""
    near = cv2.dilate(digits.ink, np.ones((5, 5), np.uint8)) > 0.05
    pen = on_page(ink.pen, digits.ink.shape)
    return float((pen & ~near).sum() / max(1, pen.sum()))


def pieces(ink: Ink) -> int:
    """How many connected pieces of ink there are, but for specks."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink.pen.astype(np.uint8), connectivity=8)
    return int((stats[1:, [2, 3]].max(axis=1) >= 2 * ink.stroke).sum())


def row_of(text: str, *, height: int = 40, margin: int = 30) -> Paper:
    paper = Paper(height + 2 * margin, len(text) * round(1.1 * height) + 2 * margin)
    paper.number(text, margin, margin, height=height)
    return paper


# Paper and pen


@pytest.mark.parametrize(
    ("ground", "pen"), [(245, 30), (20, 230), (200, 150), (90, 140), (255, 0)], ids=lambda level: str(level)
)
def test_dark_and_light_paper_give_the_same_ink(ground: float, pen: float) -> None:
    digits = row_of("35806")
    ink = extract_ink(digits.gray(paper=ground, pen=pen))
    assert kept(ink, digits) > KEPT
    assert stray(ink, digits) < STRAY
    assert pieces(ink) == 5


@pytest.mark.parametrize("pen", [1.5, 3, 5, 8, 11])
def test_thin_and_thick_pens(pen: float) -> None:
    digits = Paper(120, 300)
    for k, value in enumerate((2, 0, 9, 4)):
        digits.digit(value, 30 + 60 * k, 30, height=56, pen=pen)
    ink = extract_ink(digits.gray())
    assert kept(ink, digits) > KEPT
    assert pieces(ink) == 4
    assert ink.stroke / ink.scale == pytest.approx(pen, abs=max(1.5, 0.35 * pen))


@pytest.mark.parametrize("shape", ["across", "corner", "shadow", "edge"])
def test_light_that_falls_off_is_no_ink(shape: str) -> None:
    digits = Paper(220, 420)
    digits.number("904517", 40, 40, height=44)
    digits.number("2683", 120, 140, height=44)
    y, x = np.mgrid[0:1:220j, 0:1:420j]
    paper = {
        "across": 250 - 130 * x,
        "corner": 240 * (1 - 0.35 * ((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.5),
        "shadow": 235 - 90 / (1 + np.exp(-(x + 0.4 * y - 0.6) / 0.03)),
        "edge": 245 - 150 * np.maximum(x - 0.7, 0) / 0.3 - 40 * y,
    }[shape]
    gray = digits.gray(paper=paper.astype(np.float32), pen=0.0)
    gray = np.maximum(gray, (0.25 * paper).astype(np.uint8))  # a pen takes a share of the light that falls
    ink = extract_ink(gray)
    assert kept(ink, digits) > KEPT
    assert stray(ink, digits) < STRAY
    assert pieces(ink) == 10


@pytest.mark.parametrize(
    ("margins", "level", "noise"),
    [((60, 0), 0, 0), ((60, 0), 8, 4), ((40, 40), 1, 0), ((400, 300), 4, 3), ((300, 400), 50, 8)],
    ids=["black edges", "grainy edges", "black all around", "a slip on the lid", "a slip on a dark table"],
)
def test_what_lies_around_a_sheet_is_neither_ink_nor_measured(
    margins: tuple[int, int], level: int, noise: float
) -> None:
    digits = Paper(700, 500)
    for row in range(7):
        digits.number("350781", 50, 40 + 80 * row, height=36)
    before, _ = margins
    around = np.pad(np.zeros(digits.ink.shape, bool), margins, constant_values=True)
    page = np.pad(digits.gray(), margins)
    page[around] = np.clip(np.random.default_rng(1).normal(level, noise, int(around.sum())), 0, 255)
    plain, ink = extract_ink(digits.gray()), extract_ink(page)
    assert ink.stroke / ink.scale == pytest.approx(plain.stroke / plain.scale, rel=0.35)
    assert ink.height / ink.scale == pytest.approx(plain.height / plain.scale, rel=0.1)
    moved = Paper(*page.shape)
    moved.ink[before : before + 700, before : before + 500] = digits.ink
    assert kept(ink, moved) > KEPT
    assert stray(ink, moved) < STRAY


@pytest.mark.parametrize("margin", [60, 120, 300])
@pytest.mark.parametrize("slant", [0, 60])
def test_a_shadow_on_a_sheet_and_on_the_table_around_it_is_neither(margin: int, slant: int) -> None:
    digits = Paper(700, 500)
    for row in range(7):
        digits.number("350781", 50, 40 + 80 * row, height=36)
    height, width = 700 + 2 * margin, 500 + 2 * margin
    corners = np.array([[0, 0], [500, 0], [500, 700], [0, 700]], np.float32)
    seen = corners + margin + np.array([[slant, 0], [-slant, 0], [0, 0], [0, 0]], np.float32)
    turn = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
    page = cv2.warpPerspective(digits.gray(), turn, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=65)
    moved = Paper(height, width)
    moved.ink = cv2.warpPerspective(digits.ink.astype(np.float32), turn, (width, height))
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    light = 1 - 0.5 / (1 + np.exp((x + 0.7 * y - 0.7) / 0.03))
    ink = extract_ink((page * light).astype(np.uint8))
    assert kept(ink, moved) > KEPT
    assert stray(ink, moved) < STRAY


@pytest.mark.parametrize("height", [40, 60, 120])
def test_digits_that_touch_a_thick_black_frame_stay(height: int) -> None:
    digits = Paper(300, 900)
    digits.number("350718", 60, 0, height=height)
    page = np.pad(digits.gray(pen=0), 20)
    moved = Paper(*page.shape)
    moved.ink[20:-20, 20:-20] = digits.ink
    assert kept(extract_ink(page), moved) > 0.6  # what lies closest to the frame goes with it


def test_light_writing_on_black_leaves_no_sheet() -> None:
    digits = Paper(700, 500)
    digits.number("350", 40, 200, height=200)
    assert kept(extract_ink(digits.gray(paper=0, pen=240)), digits) > KEPT


def test_black_paper_in_a_small_picture_and_ink_that_runs_off_the_sheet_are_no_edge() -> None:
    """A digit that fills a picture touches its sides, as a scanner's lid does."""
    seven = Paper(300, 220)
    seven.ink[:] = cv2.resize(digit_mask(7, 300).astype(np.float32), (220, 300), interpolation=cv2.INTER_NEAREST)
    assert kept(extract_ink(seven.gray(pen=0)), seven) > KEPT


def test_a_solid_bar_does_not_pass_for_the_writing() -> None:
    digits = Paper(400, 800)
    for row in range(3):
        digits.number("3507812", 60, 150 + 80 * row, height=36)
    page = digits.gray()
    plain = extract_ink(page)
    page[40:100, 100:700] = 20
    barred = extract_ink(page)
    assert barred.stroke / barred.scale == pytest.approx(plain.stroke / plain.scale, rel=0.35)
    assert barred.height / barred.scale == pytest.approx(plain.height / plain.scale, rel=0.1)


def test_one_digit_on_a_strip_many_times_as_long_is_ink() -> None:
    digits = Paper(30_000, 60)
    digits.number("5", 15, 615, height=25)
    assert kept(extract_ink(digits.gray()), digits) > KEPT


@pytest.mark.parametrize("shape", [(1, 1601), (2000, 1), (3, 5000)], ids=str)
def test_a_page_hardly_wider_than_a_hair_has_no_ink(shape: tuple[int, int]) -> None:
    assert not extract_ink(np.full(shape, 200, np.uint8)).pen.any()


def test_noise_is_no_ink() -> None:
    digits = row_of("71952")
    noise = np.random.default_rng(5).normal(0, 7, digits.ink.shape)
    gray = np.clip(digits.gray(paper=225, pen=60) + noise, 0, 255).astype(np.uint8)
    ink = extract_ink(gray)
    assert kept(ink, digits) > KEPT
    assert stray(ink, digits) < STRAY


def test_faint_pencil_is_ink() -> None:
    digits = row_of("40783")
    noise = np.random.default_rng(6).normal(0, 1.5, digits.ink.shape)
    gray = np.clip(digits.gray(paper=235, pen=195) + noise, 0, 255).astype(np.uint8)
    ink = extract_ink(gray)
    assert kept(ink, digits) > KEPT
    assert stray(ink, digits) < STRAY


@pytest.mark.parametrize("pen", [3.0, 5.0])
def test_digits_from_10_to_300_pixels_on_one_page(pen: float) -> None:
    digits = Paper(420, 700)
    places = {10: (30, 30), 16: (80, 30), 30: (140, 30), 60: (30, 100), 120: (30, 230), 300: (330, 60)}
    for height, (left, top) in places.items():
        for k in range(1 if height == 300 else 2):
            digits.digit(5 - 2 * k, left + k * round(1.1 * height), top, height=height, pen=min(pen, 0.11 * height))
    ink = extract_ink(digits.gray())
    for box in digits.boxes:
        assert kept_in(ink, digits, box) > 0.85, box
    assert pieces(ink) == len(digits.boxes)


def test_fat_digits_beside_thin_ones() -> None:
    digits = Paper(420, 700)
    digits.number("35", 30, 60, height=300)  # strokes of 33 pixels
    digits.number("271", 430, 60, height=40)  # strokes of 4
    ink = extract_ink(digits.gray())
    for box in digits.boxes:
        assert kept_in(ink, digits, box) > 0.85, box


def test_a_fat_digit_among_many_thin_ones() -> None:
    digits = Paper(760, 1300)
    fat = digits.digit(7, 30, 60, height=300)
    for row in range(8):
        digits.number("27083540292708354029", 400, 40 + 45 * row, height=36)
    ink = extract_ink(digits.gray())
    assert ink.stroke / ink.scale < 6, "the usual stroke is a thin one's"
    assert kept_in(ink, digits, fat) > 0.85


def test_a_large_page_of_thick_strokes_is_halved_and_loses_nothing() -> None:
    digits = Paper(1500, 1500)
    digits.number("608", 100, 100, height=120)
    ink = extract_ink(digits.gray())
    assert ink.scale == 0.5
    assert ink.pen.shape == ink.shade.shape == (750, 750)
    assert kept(ink, digits) > KEPT
    assert pieces(ink) == 3


@pytest.mark.parametrize(("lines", "scale"), [(2, 0.8), (8, 1.0)])
def test_a_large_page_with_thin_writing_too_is_made_no_smaller_than_that_allows(lines: int, scale: float) -> None:
    digits = Paper(1500, 1500)
    digits.number("608", 100, 100, height=120)
    for line in range(lines):
        digits.number("271271271271", 100, 400 + 100 * line, height=36)
    ink = extract_ink(digits.gray())
    assert ink.scale == pytest.approx(scale, abs=0.02)
    assert all(kept_in(ink, digits, box) > 0.85 for box in digits.boxes)


def test_shade_is_dark_where_the_pen_was_and_light_elsewhere() -> None:
    digits = Paper(160, 420)
    digits.number("608", 60, 60)
    ink = extract_ink(digits.gray())
    shade = cv2.resize(ink.shade, digits.ink.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.percentile(shade[digits.ink > 0.9], 10) > INK_SHADE
    assert np.percentile(shade[cv2.dilate(digits.ink, np.ones((9, 9))) == 0], 95) < 0.5 * INK_SHADE


def test_grain_leaves_the_shade_of_bare_paper_at_nothing() -> None:
    digits = row_of("608", height=60)
    grain = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 9, digits.ink.shape), (0, 0), 0.8)
    ink = extract_ink(np.clip(digits.gray(paper=72, pen=40) + grain, 0, 255).astype(np.uint8))
    shade = cv2.resize(ink.shade, digits.ink.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.median(shade[cv2.dilate(digits.ink, np.ones((15, 15))) == 0]) < 0.1 * INK_SHADE
    assert np.median(shade[digits.ink > 0.9]) > INK_SHADE


# Rules and frames


def test_a_frame_goes_and_the_digits_in_it_stay() -> None:
    digits = Paper(160, 420)
    digits.number("608", 60, 60)
    form = Paper(160, 420)
    form.ink[:] = digits.ink
    form.frame(Box(30, 35, 360, 90))
    ink = extract_ink(form.gray())
    assert kept(ink, digits) > KEPT
    assert stray(ink, digits) < STRAY
    assert pieces(ink) == 3
    around = on_page(ink.rules, form.ink.shape)
    assert around[35, 40:380].mean() > 0.9
    assert not (ink.rules & ink.pen).any()


def test_rules_are_kept_where_they_are_asked_to_be() -> None:
    form = Paper(160, 420)
    form.number("608", 60, 60)
    form.line((20, 120), (400, 120))
    with_rules = extract_ink(form.gray(), remove_rules=False)
    assert not with_rules.rules.any()
    assert on_page(with_rules.pen, form.ink.shape)[120, 30:390].mean() > 0.9


@pytest.mark.parametrize("slope", [0, 4, -6], ids=lambda slope: f"{slope}px")
def test_a_line_through_the_feet_goes_and_the_strokes_stay_whole(slope: int) -> None:
    digits = Paper(140, 420)
    digits.number("47149", 60, 40, height=50, gap=0.5)
    ruled = Paper(140, 420)
    ruled.ink[:] = digits.ink
    ruled.line((10, 78 - slope / 2), (410, 78 + slope / 2))
    ink = extract_ink(ruled.gray())
    assert kept(ink, digits) > 0.85
    assert pieces(ink) == 5, "a stroke was cut, or the line was left"
    assert stray(ink, digits) < 0.06
    for box in digits.boxes:  # every digit in one piece, head to foot
        view = on_page(ink.pen, digits.ink.shape)[box.top : box.bottom, box.left : box.right]
        assert view.any(axis=1).mean() > 0.95


def test_a_dashed_line_goes() -> None:
    digits = Paper(150, 460)
    digits.number("382650", 50, 30, height=50, gap=0.4)
    ruled = Paper(150, 460)
    ruled.ink[:] = digits.ink
    for left in range(10, 440, 16):
        ruled.line((left, 100), (left + 8, 100))
    ink = extract_ink(ruled.gray())
    assert kept(ink, digits) > KEPT
    assert pieces(ink) == 6


def test_bars_and_stems_of_digits_are_no_rules() -> None:
    digits = row_of("17471757", height=60)
    ink = extract_ink(digits.gray())
    assert not ink.rules.any()
    assert kept(ink, digits) > KEPT


def test_find_rules_gives_the_line_and_not_what_crosses_it() -> None:
    mask = np.zeros((60, 200), bool)
    mask[30:32, 5:195] = True
    for left in range(20, 180, 40):  # stems, 24 tall
        mask[16:40, left : left + 4] = True
    rules, _ = find_rules(mask, stroke=4.0)
    assert rules[30:32, 8:16].all()
    assert not (rules & ~mask).any()
    for left in range(20, 180, 40):
        assert (mask & ~rules)[16:40, left + 1 : left + 3].all()


# Measures


@pytest.mark.parametrize("width", [3, 5, 9])
def test_the_stroke_width_of_bars(width: int) -> None:
    mask = np.zeros((100, 120), bool)
    for left in range(10, 110, 30):
        mask[10:90, left : left + width] = True
    assert stroke_width(mask) == pytest.approx(width, abs=1.0)
    assert stroke_width(mask.T) == pytest.approx(width, abs=1.0)


def test_no_ink_has_no_stroke_width() -> None:
    assert stroke_width(np.zeros((9, 9), bool)) == 0.0


@pytest.mark.parametrize("height", [20, 50, 110])
def test_the_height_of_the_writing(height: int) -> None:
    digits = row_of("2803591", height=height)
    mask = digits.ink > 0.5
    assert digit_height(mask, stroke=0.11 * height) == pytest.approx(height, rel=0.12)


# The ends of what can come


@pytest.mark.parametrize("level", [0, 60, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (5, 5), (120, 200)])
def test_a_blank_page_has_no_ink(shape: tuple[int, int], level: int) -> None:
    ink = extract_ink(np.full(shape, level, np.uint8))
    assert not ink.pen.any()
    assert not ink.rules.any()


def test_one_pixel_gives_at_most_a_speck() -> None:
    gray = np.full((60, 60), 250, np.uint8)
    gray[30, 20] = 0
    ink = extract_ink(gray)
    where = np.argwhere(on_page(ink.pen, gray.shape))
    assert np.abs(where - (30, 20)).max(initial=0) <= 2


def test_ink_at_the_edges_is_kept() -> None:
    digits = Paper(100, 160)
    digits.digit(7, 0, 0, height=50)
    digits.digit(2, 160 - 32, 50, height=50)
    ink = extract_ink(digits.gray())
    assert kept(ink, digits) > 0.85
    pen = on_page(ink.pen, digits.ink.shape)
    assert pen[0].any()
    assert pen[:, 0].any()
    assert pen[-1].any()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)))
def test_any_page_gives_ink_of_one_shape_and_rules_apart_from_it(gray: Gray) -> None:
    before = gray.copy()
    ink = extract_ink(gray)
    assert ink.pen.shape == ink.rules.shape
    assert ink.pen.shape == tuple(round(side * ink.scale) for side in gray.shape)
    assert not (ink.pen & ink.rules).any()
    assert ink.stroke >= 1
    assert ink.height > 0
    assert np.array_equal(gray, before)


def test_a_page_of_ink_alone_is_as_thick_as_it_is_wide() -> None:
    assert stroke_width(np.ones((9, 12), bool)) == 9.0
    assert stroke_width(np.zeros((9, 12), bool)) == 0.0


def test_a_felt_pen_is_solid_between_thin_lines() -> None:
    digits = Paper(255, 190)
    digits.digit(9, 70, 60, height=95, pen=16)
    ruled = Paper(255, 190)
    ruled.frame(Box(3, 3, 184, 249), 1)
    ruled.frame(Box(8, 8, 174, 239), 1)
    page = np.maximum(ruled.ink, digits.ink)
    ink = extract_ink(np.clip(245 - 95 * page, 0, 255).astype(np.uint8))
    assert kept(ink, digits) > KEPT
