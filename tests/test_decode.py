"""The best reading of a run, and how sure it is: held against all readings, written out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitize import decode
from digitize.decode import Found, agree, read_run, split_classes
from digitize.records import NO_DIGIT, Box, Place
from digitize.segment import Candidate, Glyph, Run

fixed = settings(derandomize=True, deadline=None, max_examples=150)
WIDE = 20  # pixels of an atom


def run_of(atoms: int, *sets: int) -> Run:
    """A run whose atoms lie side by side; candidates are given as sets of atoms (bits)."""
    candidates = []
    for held in sets:
        first, last = (held & -held).bit_length() - 1, held.bit_length()
        width = (last - first) * WIDE - 2
        candidates.append(Candidate(held, Box(first * WIDE, 0, width, 30), np.ones((30, width), bool)))
    glyphs = tuple(Glyph(c.box, c.mask) for c in candidates[:1])
    return Run(glyphs, tuple(candidates), atoms)


def beliefs(*rows: tuple[int | None, float]) -> np.ndarray:
    """For each candidate the class it looks like (None: no digit) and how sure that is."""
    given = np.zeros((len(rows), NO_DIGIT + 1), np.float32)
    for row, (value, sure) in zip(given, rows, strict=True):
        row[:] = (1 - sure) / NO_DIGIT
        row[NO_DIGIT if value is None else value] = sure
    return given


def values(run: Run, probabilities: np.ndarray) -> list[int]:
    return [int(found.probabilities.argmax()) for found in read_run(run, probabilities)]


# Planted answers


def test_a_digit_alone_is_read() -> None:
    (found,) = read_run(run_of(1, 1), beliefs((7, 0.96)))
    assert found.index == 0
    assert found.probabilities.argmax() == 7
    assert found.probabilities[7] == pytest.approx(0.96, abs=0.01)


def test_what_is_no_digit_is_not_reported() -> None:
    assert read_run(run_of(1, 1), beliefs((None, 0.99))) == []
    assert read_run(run_of(2, 3, 1, 2), beliefs((None, 0.99), (None, 0.98), (None, 0.97))) == []


def test_a_digit_beside_dirt_is_read_without_it() -> None:
    assert values(run_of(2, 1, 2, 3), beliefs((4, 0.97), (None, 0.98), (None, 0.9))) == [4]


def test_two_digits_that_touch_are_split() -> None:
    run = run_of(2, 0b11, 0b01, 0b10)
    assert values(run, beliefs((None, 0.97), (3, 0.95), (8, 0.96))) == [3, 8]


def test_one_digit_is_not_split() -> None:
    run = run_of(2, 0b11, 0b01, 0b10)
    assert values(run, beliefs((8, 0.98), (1, 0.4), (7, 0.45))) == [8]


def test_broken_pieces_are_merged() -> None:
    run = run_of(3, 0b001, 0b010, 0b100, 0b011, 0b111)
    assert values(run, beliefs((None, 0.9), (None, 0.9), (1, 0.9), (5, 0.97), (None, 0.99))) == [5, 1]


def test_a_longer_path_is_not_better_for_its_length_alone() -> None:
    run = run_of(4, 0b1111, 0b0011, 0b1100, 0b0001, 0b0010, 0b0100, 0b1000)
    halves = beliefs((None, 0.99), (2, 0.98), (6, 0.98), *[(1, 0.5)] * 4)
    assert values(run, halves) == [2, 6]


def test_a_merge_may_skip_another_glyphs_atom() -> None:
    run = run_of(3, 0b001, 0b010, 0b100, 0b101)
    found = read_run(run, beliefs((None, 0.9), (1, 0.97), (None, 0.9), (0, 0.96)))
    assert sorted(int(f.probabilities.argmax()) for f in found) == [0, 1]


def test_found_digits_run_from_left_to_right() -> None:
    run = run_of(3, 0b100, 0b001, 0b010)
    found = read_run(run, beliefs((3, 0.9), (1, 0.9), (2, 0.9)))
    assert [int(f.probabilities.argmax()) for f in found] == [1, 2, 3]
    assert [f.index for f in found] == [1, 2, 0]


def test_doubt_about_the_cut_is_doubt_about_the_digit() -> None:
    run = run_of(2, 0b11, 0b01, 0b10)
    sure = read_run(run, beliefs((None, 0.99), (3, 0.97), (8, 0.97)))
    unsure = read_run(run, beliefs((0, 0.8), (3, 0.97), (8, 0.97)))
    assert len(sure) == len(unsure) == 2
    for a, b in zip(sure, unsure, strict=True):
        assert b.probabilities.max() < a.probabilities.max()


def test_readings_that_agree_on_a_digit_add_up() -> None:
    # A crumb that may or may not belong to the 6: either way it is a 6.
    candidates = (
        Candidate(0b01, Box(0, 0, 20, 30), np.ones((30, 20), bool)),
        Candidate(0b10, Box(21, 26, 3, 4), np.ones((4, 3), bool)),
        Candidate(0b11, Box(0, 0, 24, 30), np.ones((30, 24), bool)),
    )
    run = Run((), candidates, 2)
    (found,) = read_run(run, beliefs((6, 0.97), (None, 0.97), (6, 0.97)))
    assert found.probabilities[6] > 0.9


def test_a_network_without_the_class_none_reads_whole_glyphs() -> None:
    ten = np.full((1, 10), 0.02, np.float32)
    ten[0, 4] = 0.82
    (found,) = read_run(run_of(1, 1), ten)
    assert found.probabilities.argmax() == 4
    digits, whole = split_classes(ten)
    assert digits.shape == (1, 10)
    assert whole[0] > 0.99


# Properties


@st.composite
def puzzles(draw: st.DrawFn) -> tuple[Run, np.ndarray]:
    """Small runs of any candidates with any opinion; each atom is in one at least."""
    atoms = draw(st.integers(1, 5))
    sets = draw(st.lists(st.integers(1, (1 << atoms) - 1), max_size=7))
    sets = list(dict.fromkeys([*sets, *(1 << k for k in range(atoms))]))
    power = draw(st.lists(st.floats(-6, 6), min_size=11 * len(sets), max_size=11 * len(sets)))
    grown = np.exp(np.array(power).reshape(len(sets), 11))
    return run_of(atoms, *sets), (grown / grown.sum(axis=1, keepdims=True)).astype(np.float32)


@fixed
@given(puzzles())
def test_every_reading_is_one(puzzle: tuple[Run, np.ndarray]) -> None:
    run, probabilities = puzzle
    found = read_run(run, probabilities)
    taken = 0
    for one in found:
        held = run.candidates[one.index].atoms
        assert not held & taken, "no ink is read twice"
        taken |= held
        assert one.box == run.candidates[one.index].box
        assert one.probabilities.shape == (10,)
        assert (one.probabilities >= 0).all()
        assert one.probabilities.sum() <= 1 + 1e-6
    middles = [one.box.left + one.box.width / 2 for one in found]
    assert middles == sorted(middles)


@fixed
@given(puzzles(), st.data())
def test_the_walk_is_the_slow_way_over_all_readings(puzzle: tuple[Run, np.ndarray], data: st.DataObject) -> None:
    run, _ = puzzle
    scores = st.floats(-5, 5)
    gain = data.draw(st.lists(scores, min_size=len(run.candidates), max_size=len(run.candidates)))
    loss = data.draw(st.lists(scores, min_size=run.atoms, max_size=run.atoms))
    chosen, posterior = decode._walk(run, gain, loss)

    readings = {}
    for size in range(len(run.candidates) + 1):
        for some in itertools.combinations(range(len(run.candidates)), size):
            held = [run.candidates[k].atoms for k in some]
            union = 0
            for atoms in held:
                union |= atoms
            if sum(atoms.bit_count() for atoms in held) == union.bit_count():
                left_out = sum(loss[k] for k in range(run.atoms) if not union >> k & 1)
                readings[some] = sum(gain[k] for k in some) + left_out
    assert readings[tuple(sorted(chosen))] == pytest.approx(max(readings.values()), abs=1e-9)
    whole = sum(math.exp(decode.SHARPNESS * score) for score in readings.values())
    for k in range(len(run.candidates)):
        share = sum(math.exp(decode.SHARPNESS * s) for some, s in readings.items() if k in some) / whole
        assert posterior[k] == pytest.approx(share, abs=1e-9)


def test_a_run_of_very_many_pieces_is_read_in_time() -> None:
    sets = [1 << k for k in range(40)] + [3 << k for k in range(39)] + [5 << k for k in range(38)]
    found = read_run(run_of(40, *sets), beliefs(*[(2, 0.97)] * 40, *[(None, 0.95)] * 77))
    assert [int(f.probabilities.argmax()) for f in found] == [2] * 40


@pytest.fixture
def walked_too(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run, np.ndarray], tuple[list[Found], list[Found]]]:
    """Reads a run that is too long to be walked, and walks it nevertheless."""
    greedily: list[Run] = []

    def greedy(run: Run, *scores: list[float]) -> tuple[list[int], np.ndarray]:
        greedily.append(run)
        return take(run, *scores)

    def both(run: Run, given: np.ndarray) -> tuple[list[Found], list[Found]]:
        found = read_run(run, given)
        assert greedily.pop() is run
        monkeypatch.setattr(decode, "MOST_STATES", 100_000)
        walked = read_run(run, given)
        assert not greedily
        return found, walked

    take = decode._greedy
    monkeypatch.setattr(decode, "_greedy", greedy)
    return both


ATOMS = 24
APART = [1 << k | 1 << j for k in range(ATOMS) for j in range(k + 2, min(ATOMS, k + 11))]  # merges that skip atoms


@pytest.mark.parametrize("sure", [0.52, 0.6, 0.65, 0.97])
def test_no_digit_is_dropped_where_there_are_more_readings_than_can_be_walked(walked_too: Any, sure: float) -> None:
    run = run_of(ATOMS, *(1 << k for k in range(ATOMS)), *APART)
    found, walked = walked_too(run, beliefs(*[(k % 10, sure) for k in range(ATOMS)], *[(None, 0.999)] * len(APART)))
    assert [one.index for one in found] == [one.index for one in walked] == list(range(ATOMS))
    for one, other in zip(found, walked, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=0.02)


def test_doubtful_merges_do_not_swallow_sure_digits_where_there_are_too_many_readings(walked_too: Any) -> None:
    merges = [3 << k for k in range(ATOMS - 1)]
    run = run_of(ATOMS, *(1 << k for k in range(ATOMS)), *merges, *APART)
    doubtful = [*[(4, 0.5)] * len(merges), *[(None, 0.999)] * len(APART)]
    found, walked = walked_too(run, beliefs(*[(k % 10, 0.97) for k in range(ATOMS)], *doubtful))
    assert [one.index for one in found] == [one.index for one in walked] == list(range(ATOMS))


def test_ink_among_digits_is_likelier_a_digit_and_among_letters_less() -> None:
    place = Box(100, 100, 20, 40)
    beside = [Box(60, 102, 20, 38), Box(140, 98, 20, 42)]
    (alone,) = decode.priors([place], [], [])
    (among_digits,) = decode.priors([place], [(box, 0.95) for box in beside], [])
    (among_letters,) = decode.priors([place], [], beside)
    assert alone == 0.0
    assert among_digits > 0.5
    assert among_letters < -0.5


def test_dots_other_lines_and_its_own_ink_have_no_vote() -> None:
    place = Box(100, 100, 20, 40)
    dot, below, own = Box(125, 135, 6, 6), Box(100, 160, 20, 40), Box(102, 100, 10, 40)
    assert decode.priors([place], [], [dot, below, own]) == [0.0]


def test_a_prior_moves_a_doubtful_run_to_either_side() -> None:
    glyph = Glyph(Box(0, 0, 10, 20), np.ones((20, 10), bool))
    run = Run((glyph,), (Candidate(1, glyph.box, glyph.mask),), 1)
    doubtful = np.zeros((1, 11), np.float32)
    doubtful[0, [7, 10]] = 0.45, 0.55
    assert decode.read_run(run, doubtful) == []
    (found,) = decode.read_run(run, doubtful, prior=2.0)
    assert found.probabilities[7] > 0.8
    assert decode.read_run(run, doubtful, prior=-2.0) == []


# Two networks on one place


def place(value: int, sure: float, seen: float = 0.9) -> Place:
    digits = np.full(10, (1 - sure) / 9)
    digits[value] = sure
    return Place(Box(0, 0, 10, 20), seen, digits)


def test_two_that_agree_are_surer_than_one() -> None:
    (both,) = agree([place(3, 0.8)], beliefs((3, 0.9)))
    (one,) = agree([place(3, 0.8)], beliefs((8, 0.9)))
    assert both.probabilities.argmax() == 3
    assert both.probabilities[3] > one.probabilities[3]
    assert both.probabilities.sum() <= 1


def test_the_surer_voice_is_heard() -> None:
    (found,) = agree([place(3, 0.45)], beliefs((8, 0.999)))
    assert found.probabilities.argmax() == 8
    (found,) = agree([place(3, 0.999)], beliefs((8, 0.5)))
    assert found.probabilities.argmax() == 3


def opinions(heard: int, disputed: int, silent: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What a detector and a classifier say of so many places, over some of which they differ."""
    seen = np.eye(10)[np.arange(heard + silent) % 10] * 0.89 + 0.01
    said = seen.copy()
    said[:disputed] = np.roll(said[:disputed], 1, axis=1)
    said[heard:] = 0.1
    return seen, said.astype(np.float32)


@pytest.mark.parametrize(
    ("heard", "disputed", "power"),
    [(100, 4, (0.025 * 120 / 5.6) ** 2), (100, 3, (0.025 * 120 / 4.6) ** 2), (200, 8, (0.025 * 220 / 9.6) ** 2)],
)
def test_the_classifier_counts_for_more_the_less_the_two_differ(heard: int, disputed: int, power: float) -> None:
    assert decode.classifier_power(*opinions(heard, disputed)) == pytest.approx(power)
    assert decode.LEAST_POWER < power < 1


def test_the_classifier_always_counts_and_never_for_more_than_the_detector() -> None:
    assert decode.classifier_power(*opinions(20, 20)) == decode.LEAST_POWER
    assert decode.classifier_power(*opinions(200, 0)) == 1


def test_on_a_page_on_which_it_agrees_the_classifier_can_overrule_a_detector_that_is_sure() -> None:
    plain = [place(k % 10, 0.99) for k in range(200)]
    said = [(k % 10, 0.99) for k in range(200)]
    disputed, overruling = place(8, 0.99), (1, 0.9999)
    assert agree([*plain, disputed], beliefs(*said, overruling))[-1].probabilities.argmax() == 1
    lost = [((k + k % 2) % 10, 0.99) for k in range(200)]  # every other digit is another one to it
    assert agree([*plain, disputed], beliefs(*lost, overruling))[-1].probabilities.argmax() == 8


def test_a_place_without_an_opinion_of_the_classifier_is_not_counted() -> None:
    assert decode.classifier_power(*opinions(100, 4, silent=80)) == decode.classifier_power(*opinions(100, 4))


def test_a_place_hardly_seen_is_not_reported_and_a_doubtful_one_is_doubted() -> None:
    places = [place(3, 0.9, seen=0.05), place(5, 0.9, seen=0.5), place(7, 0.9, seen=0.99)]
    assert decode.reported(places) == places[1:]
    found = agree(places[1:], beliefs(*[(5, 0.5)] * 2))
    assert [one.index for one in found] == [0, 1]
    assert found[0].probabilities.max() < 0.6 < found[1].probabilities.max()


def test_of_no_places_nothing_is_found() -> None:
    assert agree([], np.zeros((0, 11), np.float32)) == []
