"""The best reading of each run: which of its candidates are the digits, and how sure that is.

Assumes a run's candidates with the classifier's probabilities for each: ten digits, and (from a network that has
learnt it) "no digit". A *reading* is a set of candidates that share no atom; atoms in none of them are no digit.

Each candidate's classifier verdict is an expert's opinion on whether that ink is one whole digit, v = 1 - P(no
digit). Were the experts independent, a reading R would have the likelihood

    prod over c in R of v(c)  *  prod over c not in R of (1 - v(c)),

so its score is the sum of log v(c) - log(1 - v(c)) over R: the same number of experts is asked whatever the length
of the path, which is what makes readings of different lengths comparable. They are not independent: the slices of
a glyph share its ink. So the second term counts by `DISSENT`, between 0 (only the chosen are asked) and 1, and
an atom that is left out pays the first term's share for being no digit. The sum over all readings gives each
candidate its posterior, so that a digit's confidence includes the doubt about its segmentation.

The readings of a run are walked depth first by the lowest atom not yet explained, each set of explained atoms once
(the forward pass of a semi-Markov chain where atoms lie in a row; a merge may skip over another glyph's atoms).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digitize.records import NO_DIGIT, Box, Place, Probabilities
from digitize.segment import Candidate, Run, atoms_of

DISSENT = 0.4  # weight of what the candidates not chosen say; chosen on the maker's validation sheets
SHARPNESS = 1.0  # exponent of the readings' likelihoods in the posterior; chosen likewise
LEAST = 1e-4  # no expert is surer than this
SAME_PLACE = 0.6  # intersection over union from which two candidates are two cuts of one digit
BASE_PRIOR = 0.5  # log odds: made sheets prefer 0 by a hair, but a digit in doubt is to be shown, not dropped
BESIDE = 2.5  # heights to each side within which neighbours vote
ALIKE = 0.5  # of its height that a neighbour has to have
PRIOR_WEIGHT, MOST_PRIOR = 2.5, 4.0  # of the votes' log odds; chosen on the maker's validation sheets
# Chosen on the maker's validation sheets, and on plain pages of MNIST's training digits by its validation writers.
LEAST_POWER = 0.25  # of the classifier's opinion beside the detector's; the most is 1, where they count alike
EQUAL_AT = 0.025  # share of a page's digits over which the two differ up to which they count alike
USUAL_DISPUTES, USUAL_AMONG = 0.08, 20  # share over which they differ on made sheets; the digits that it counts for
LEAST_SEEN = (
    0.35  # probability from which a place is reported; 0.5 has half a point more f1 there, but hides more digits
)
MOST_STATES = 4000  # sets of explained atoms walked before a run is read greedily


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate that the best reading holds, or a place that two networks spoke on.

    Attributes:
        index: its place among the run's candidates, or among the places that `agree` was given.
        box: of its ink, in working pixels.
        probabilities: float64 (10,), for each digit the probability that this place holds it; they sum to less
            than 1 by the doubt whether there is one digit at all.
    """

    index: int
    box: Box
    probabilities: NDArray[np.float64]


def agree(places: list[Place], probabilities: Probabilities) -> list[Found]:
    """Let two networks speak on each place: the detector, which saw the page, and the classifier, which saw the ink.

    Their opinions on which digit it is are pooled as a product of powers (Genest & Zidek, "Combining Probability
    Distributions", Statistical Science 1986), the classifier's by how often the two agree on the page. Whether there is
    a digit at all is the detector's to say: on made sheets the classifier's "no digit" made that worse, since it sees
    no more of the page than two digits' widths.

    Args:
        places: what the detector found on one page.
        probabilities: float32 (len(places), 10 or 11), what the classifier says of each place's ink.

    Returns:
        What each is, in the same order.
    """
    if not places:
        return []
    said, _ = split_classes(probabilities)
    seen = np.stack([place.digits for place in places])
    pooled = np.maximum(seen, LEAST) * np.maximum(said, LEAST) ** classifier_power(seen, said)
    pooled /= pooled.sum(axis=1, keepdims=True)
    return [Found(k, place.box, place.seen * pooled[k]) for k, place in enumerate(places)]


def classifier_power(seen: NDArray[np.float64], said: Probabilities) -> float:
    """How much the classifier's opinion weighs on a page beside the detector's.

    Two judges who hardly ever differ know the hand before them, and where they do differ either may be right. The more
    they differ, the likelier it is the classifier that is lost: it depends on whose ink was found to be whose. A few
    digits tell little of that; it takes a page of some forty without a dispute for both to count alike.

    Args:
        seen: float64 (N, 10), what the detector takes the places of a page for.
        said: float32 (N, 10), what the classifier takes them for, were they digits; a row of equals where it has
            nothing to say.

    Returns:
        From `LEAST_POWER` to 1, falling with the square of the share of places over which they differ.
    """
    heard = np.ptp(said, axis=1) > 0
    disputes = np.count_nonzero((seen.argmax(axis=1) != said.argmax(axis=1)) & heard)
    share = (disputes + USUAL_DISPUTES * USUAL_AMONG) / (np.count_nonzero(heard) + USUAL_AMONG)
    return float(np.clip((EQUAL_AT / share) ** 2, LEAST_POWER, 1.0))


def reported(places: list[Place]) -> list[Place]:
    """The places that are likely enough to be shown."""
    return [place for place in places if place.seen >= LEAST_SEEN]


def read_run(run: Run, probabilities: Probabilities, *, prior: float = 0.0) -> list[Found]:
    """Read one run.

    Args:
        run: its atoms and candidates.
        probabilities: float32 (len(run.candidates), 10 or 11).
        prior: log odds, beyond what the classifier assumes, that ink in this place is digits (see `priors`).

    Returns:
        The candidates of the best reading, left to right.
    """
    digits, whole = split_classes(probabilities)
    if prior:
        whole = np.clip(1.0 / (1.0 + (1.0 / whole - 1.0) * np.exp(-prior)), LEAST, 1 - LEAST)
    if len(run.candidates) == 1:
        if whole[0] <= 0.5:
            return []
        return [Found(0, run.candidates[0].box, whole[0] * digits[0])]
    chosen, posterior = _walk(run, *_scores(run, whole))
    order = sorted(chosen, key=lambda k: run.candidates[k].box.left + run.candidates[k].box.width / 2)
    return [Found(k, run.candidates[k].box, _belief(run, k, posterior, digits)) for k in order]


def _belief(run: Run, chosen: int, posterior: NDArray[np.float64], digits: Probabilities) -> NDArray[np.float64]:
    """For each digit, the share of readings that have it where the chosen candidate stands: float64 (10,).

    Readings that cut a crumb more or less off the same digit agree about it, and all count.
    """
    box = run.candidates[chosen].box
    likely = np.flatnonzero(posterior > LEAST)
    same = [k for k in likely if _overlap(box, run.candidates[k].box) >= SAME_PLACE]
    belief = posterior[same] @ digits[same].astype(np.float64)
    return np.asarray(belief / max(1.0, float(belief.sum())), dtype=np.float64)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = min(a.right, b.right) - max(a.left, b.left), min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a.width * a.height + b.width * b.height - width * height)


def priors(places: list[Box], digits: list[tuple[Box, float]], refused: list[Box]) -> list[float]:
    """How much likelier than elsewhere ink is digits in a place, judged by what stands beside it.

    Letters stand among letters and digits among digits. Each neighbour on the same line, no further than `BESIDE`
    heights away and of similar size, has one vote, for or against; the log odds of the votes are the prior.

    Args:
        places: boxes to give priors for.
        digits: boxes of digits already read, with their confidence.
        refused: boxes of ink that was read as no digit.

    Returns:
        Log odds in -`MOST_PRIOR`..`MOST_PRIOR`, one a place; 0 for ink by itself.
    """
    voters = [box for box, _ in digits] + refused
    if not voters:
        return [0.0] * len(places)
    votes = np.array([sure for _, sure in digits] + [0.0] * len(refused))
    against = np.array([1.0 - sure for _, sure in digits] + [1.0] * len(refused))
    box = np.array([(b.left, b.top, b.right, b.bottom) for b in voters], float)
    order = np.argsort(box[:, 0], kind="stable")
    box, votes, against = box[order], votes[order], against[order]
    tall = box[:, 3] - box[:, 1]
    widest = float((box[:, 2] - box[:, 0]).max())
    answers = []
    for place in places:
        reach = BESIDE * place.height
        first, last = np.searchsorted(box[:, 0], (place.left - reach - widest, place.right + reach))
        near = box[first:last]
        overlap = np.minimum(near[:, 3], place.bottom) - np.maximum(near[:, 1], place.top)
        least = np.minimum(tall[first:last], place.height)
        same = (overlap > 0.5 * least) & (least > ALIKE * np.maximum(tall[first:last], place.height))
        same &= near[:, 2] > place.left - reach
        same &= ~((near[:, 0] >= place.left) & (near[:, 2] <= place.right))  # its own ink does not vote
        odds = (votes[first:last][same].sum() + 1.0) / (against[first:last][same].sum() + 1.0)
        answers.append(float(np.clip(PRIOR_WEIGHT * np.log(odds), -MOST_PRIOR, MOST_PRIOR)))
    return answers


def split_classes(probabilities: Probabilities) -> tuple[Probabilities, NDArray[np.float64]]:
    """Give (digits (N, 10), each row summing to 1; whole (N,), the probability of being one digit)."""
    digits = probabilities[:, :NO_DIGIT]
    if probabilities.shape[1] == NO_DIGIT:
        return digits, np.full(len(digits), 1 - LEAST)
    whole = digits.sum(axis=1, dtype=np.float64)
    shares = digits / np.maximum(whole, 1e-9)[:, None]
    return shares.astype(np.float32), np.clip(whole, LEAST, 1 - LEAST)


def _scores(run: Run, whole: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """What each candidate adds when chosen, and what each atom adds when left out."""
    yes, no = np.log(whole), np.log1p(-whole)
    gain = yes - DISSENT * no
    loss = [0.0] * run.atoms
    fewest = [run.atoms + 1] * run.atoms  # atoms of the smallest candidate that holds each
    for j, candidate in enumerate(run.candidates):
        held = candidate.atoms.bit_count()
        for k in atoms_of(candidate.atoms):
            if held < fewest[k]:
                fewest[k] = held
                loss[k] = float((1 - DISSENT) * no[j]) / held
    return [float(g) for g in gain], loss


def _walk(run: Run, gain: list[float], loss: list[float]) -> tuple[list[int], NDArray[np.float64]]:
    """The best reading, and for each candidate the share of all readings' likelihood that holds it."""
    by_lowest = _by_lowest_atom(run.candidates, run.atoms)
    full = (1 << run.atoms) - 1
    states: dict[int, list[tuple[int, float, int]]] = {}
    order: list[int] = []
    stack = [0]
    while stack:  # each state's ways on; states are sets of explained atoms, only ever growing
        state = stack.pop()
        if state in states or state == full:
            continue
        lowest = (~state & (state + 1)).bit_length() - 1
        ways = [(state | 1 << lowest, loss[lowest], -1)]
        ways += [(state | atoms, gain[k], k) for k, atoms in by_lowest[lowest] if not state & atoms]
        states[state] = ways
        order.append(state)
        stack += [state for state, _, _ in ways]
        if len(states) > MOST_STATES:
            return _greedy(run, gain, loss)
    order.sort()  # a step only ever sets bits, so numeric order is an order of steps
    best: dict[int, tuple[float, int, int]] = {full: (0.0, -1, full)}
    inward: dict[int, float] = {full: 0.0}
    for state in reversed(order):
        options = [(score + best[after][0], k, after) for after, score, k in states[state]]
        best[state] = max(options)
        inward[state] = _log_sum([SHARPNESS * score + inward[after] for after, score, _ in states[state]])
    outward: dict[int, float] = {0: 0.0}
    posterior = np.zeros(len(gain))
    for state in order:
        here = outward.get(state)
        if here is None:
            continue
        for after, score, k in states[state]:
            way = here + SHARPNESS * score
            outward[after] = way if after not in outward else float(np.logaddexp(outward[after], way))
            if k >= 0:
                posterior[k] += np.exp(way + inward[after] - inward[0])
    chosen, state = [], 0
    while state != full:
        _, k, state = best[state]
        if k >= 0:
            chosen.append(k)
    return chosen, np.minimum(posterior, 1.0)


def _by_lowest_atom(candidates: tuple[Candidate, ...], atoms: int) -> list[list[tuple[int, int]]]:
    """For each atom the candidates whose lowest atom it is, as (index, atoms)."""
    table: list[list[tuple[int, int]]] = [[] for _ in range(atoms)]
    for k, candidate in enumerate(candidates):
        table[(candidate.atoms & -candidate.atoms).bit_length() - 1].append((k, candidate.atoms))
    return table


def _greedy(run: Run, gain: list[float], loss: list[float]) -> tuple[list[int], NDArray[np.float64]]:
    """What `_walk` gives, nearly: for runs with more readings than can be walked.

    Candidates are taken one after another by what choosing them wins over leaving their atoms out, or by that an atom,
    whichever wins more: the first might take a doubtful merge before two sure digits. The share of a candidate is that
    among the readings that differ from the one chosen by one candidate, put in place of those it has atoms in common
    with, or left out.
    """
    sets = [candidate.atoms for candidate in run.candidates]
    odds = np.array([g - sum(loss[j] for j in atoms_of(held)) for g, held in zip(gain, sets, strict=True)])
    an_atom = odds / [held.bit_count() for held in sets]
    chosen = max((_take(sets, odds, rank) for rank in (odds, an_atom)), key=lambda some: float(odds[some].sum()))
    rivals = {k: [j for j, held in enumerate(sets) if held & sets[k]] for k in chosen}
    instead = odds.copy()  # log odds of a candidate instead of all those chosen that it has atoms in common with
    for k in chosen:
        instead[rivals[k]] -= odds[k]
    posterior = np.zeros(len(gain))
    for k in chosen:
        way = SHARPNESS * instead[rivals[k]]
        share = np.exp(way - _log_sum([-SHARPNESS * float(odds[k]), *way]))
        posterior[rivals[k]] = np.maximum(posterior[rivals[k]], share)
    return chosen, posterior


def _take(sets: list[int], odds: NDArray[np.float64], rank: NDArray[np.float64]) -> list[int]:
    """Those with odds above 0, highest rank first, that share no atom with one before."""
    taken, chosen = 0, []
    for k in np.argsort(-rank, kind="stable").tolist():
        if odds[k] > 0 and not sets[k] & taken:
            chosen.append(k)
            taken |= sets[k]
    return chosen


def _log_sum(values: list[float]) -> float:
    """log(sum(exp(values))) without overflow."""
    top = max(values)
    return top + float(np.log(np.sum(np.exp(np.array(values) - top))))
