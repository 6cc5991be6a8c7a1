"""From what the decoder believes to a probability that can be acted on.

The decoder's belief is made of a network's softmax and of a sum over readings, and neither is a frequency. On
sheets that the maker draws from hands nobody trained on, the share of right digits is measured for each belief,
and a curve that never falls is put through it: isotonic regression by pooling adjacent violators (Zadrozny & Elkan,
"Transforming classifier scores into accurate multiclass probability estimates", KDD 2002). The curve is kept in the
model's card, together with the risk curve that answers "from which confidence on is the error at most R".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitize.errors import ModelError, UsageError

Floats = NDArray[np.float64]

MEND = "fit it again with digitize calibrate, or restore the card"
POINTS = 40  # knots that a curve is kept with
DECIMALS = 5  # of the numbers in a card
CERTAIN = 0.9995  # a finite sample cannot show more
PLAIN_STEPS = 1000  # thresholds to choose from where nothing was measured


@dataclass(frozen=True, slots=True)
class Calibration:
    """How belief turns into confidence, and what error a threshold leaves.

    Attributes:
        belief, confidence: knots of the curve, in [0, 1]; belief rises from one to the next, confidence never falls.
        threshold, error: in [0, 1], thresholds that never fall, and the expected share of wrong digits among those at
            or above each.
    """

    belief: Floats
    confidence: Floats
    threshold: Floats
    error: Floats

    @staticmethod
    def plain() -> Calibration:
        """Belief as it is; for models that were never calibrated on sheets.

        Taken at its word, belief errs at a threshold in one less the threshold, and in less above it.
        """
        ends = np.array([0.0, 1.0])
        steps = np.arange(PLAIN_STEPS + 1)
        return Calibration(ends, ends, steps / PLAIN_STEPS, (PLAIN_STEPS - steps) / PLAIN_STEPS)

    @staticmethod
    def from_card(stored: Mapping[str, Any], path: Path | str = "the model's card") -> Calibration:
        """Read what `to_card` wrote.

        Args:
            stored: what the card says of calibration.
            path: of the card.

        Raises:
            ModelError: the numbers do not make a curve.
        """
        if "belief" not in stored:
            return Calibration.plain()
        try:
            columns = [np.array(stored[key], float) for key in ("belief", "confidence", "threshold", "error")]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} holds no usable calibration ({error}): {MEND}") from None
        belief, confidence, threshold, risk = columns
        sound = all(column.ndim == 1 and bool(((column >= 0) & (column <= 1)).all()) for column in columns)  # no nan
        if not (
            sound
            and len(belief) == len(confidence) >= 2
            and len(threshold) == len(risk) >= 1
            and np.all(np.diff(belief) > 0)
            and np.all(np.diff(confidence) >= 0)
            and np.all(np.diff(threshold) >= 0)
        ):
            raise ModelError(f"{path} holds a calibration that makes no curve: {MEND}")
        return Calibration(belief, confidence, threshold, risk)

    def to_card(self) -> dict[str, list[float]]:
        """The curves as plain lists, for a card."""
        columns = {
            "belief": self.belief,
            "confidence": self.confidence,
            "threshold": self.threshold,
            "error": self.error,
        }
        return {key: [round(float(v), DECIMALS) for v in values] for key, values in columns.items()}

    def apply(self, belief: Floats) -> Floats:
        """Turn beliefs into probabilities, element by element."""
        return np.interp(belief, self.belief, self.confidence)

    def threshold_for(self, most_error: float) -> float:
        """The lowest confidence from which on the expected error is at most `most_error`.

        Raises:
            UsageError: no threshold reaches it.
        """
        reached = self.threshold[self.error <= most_error]
        if not len(reached):
            best = float(self.error.min())
            raise UsageError(
                f"--max-error {most_error:g}: this model's surest digits err in {best:.2g}; ask for no less"
            )
        return float(reached.min())


def fit(belief: Floats, right: NDArray[np.bool_]) -> Calibration:
    """Fit a calibration.

    Args:
        belief: (N,) what the decoder believed of the digits it gave, in [0, 1].
        right: (N,) whether each was right.
    """
    distinct, where, many = np.unique(belief, return_inverse=True, return_counts=True)
    columns = (distinct * many, np.bincount(where, weights=right, minlength=len(distinct)), many)
    blocks: list[list[float]] = []  # sum of belief, sum of right, count
    for block in zip(*(column.tolist() for column in columns), strict=True):
        blocks.append(list(block))
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][2] >= blocks[-1][1] * blocks[-2][2]:
            last = blocks.pop()
            blocks[-1] = [p + q for p, q in zip(blocks[-1], last, strict=True)]
    middle = np.array([b[0] / b[2] for b in blocks])
    # Half a wrong one and half a right one more in each block keep small ones from claiming certainty.
    level = np.maximum.accumulate(np.array([(b[1] + 0.5) / (b[2] + 1.0) for b in blocks]))
    knots = np.unique(np.round(np.quantile(middle, np.linspace(0, 1, POINTS)), DECIMALS))  # apart in a card, too
    curve = np.minimum(np.interp(knots, middle, level), CERTAIN)
    knots, curve = (
        np.r_[0.0, knots[(knots > 0) & (knots < 1)], 1.0],
        np.r_[0.0, curve[(knots > 0) & (knots < 1)], curve[-1]],
    )
    confidence = np.interp(belief, knots, curve)
    thresholds = np.unique(np.r_[0.0, np.quantile(confidence, np.linspace(0, 1, POINTS))])
    kept = [right[confidence >= t] for t in thresholds]
    # Half a wrong one more: that none of n was wrong does not show that none ever is.
    risk = np.array([(len(r) - r.sum() + 0.5) / (len(r) + 1) for r in kept])
    return Calibration(knots, np.maximum.accumulate(curve), thresholds, risk)
