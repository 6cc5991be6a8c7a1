"""How often the accepted digits are wrong, estimated from a random sample of them that a person looked at.

The interval is Wilson's ("Probable inference, the law of succession, and statistical inference", JASA 1927): it holds
for small samples and for samples without an error, where the usual one has no width. The page computes the same.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from digitize.errors import UsageError

Z = 1.959964  # standard deviations: 95 of 100 such intervals hold the true share


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a sample says of all the digits that it was drawn from.

    Attributes:
        wrong, looked: of the sample.
        accepted: how many digits it was drawn from.
        low, high: bounds in [0, 1] of the share that is wrong, at 95 %.
    """

    wrong: int
    looked: int
    accepted: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Share of the sample that was wrong; 0 where none was looked at."""
        return self.wrong / self.looked if self.looked else 0.0

    def __str__(self) -> str:
        if not self.looked:
            return "audit: no digit of the sample was looked at"
        return (
            f"audit: {self.wrong} of {self.looked} accepted digits wrong, {self.share:.2%} "
            f"({self.low:.2%} to {self.high:.2%} at 95 %) of {self.accepted}"
        )


def estimate(wrong: int, looked: int, accepted: int) -> Estimate:
    """Wilson's interval for a share.

    Raises:
        ValueError: more are wrong than were looked at.
    """
    if not 0 <= wrong <= looked:
        raise ValueError(f"{wrong} wrong of {looked} looked at")
    if not looked:
        return Estimate(0, 0, accepted, 0.0, 1.0)
    share = wrong / looked
    widen = 1 + Z * Z / looked
    middle = (share + Z * Z / (2 * looked)) / widen
    half = Z * math.sqrt(share * (1 - share) / looked + Z * Z / (4 * looked * looked)) / widen
    # At 0 and 1 the interval ends on the share itself, which rounding may miss by a hair.
    low, high = min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))
    return Estimate(wrong, looked, accepted, low, high)


def parse_share(text: str) -> float:
    """Read a share such as ``2%`` or ``0.02``.

    Raises:
        UsageError: it is none, or lies outside (0, 1].
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise UsageError(f"--audit {text!r}: is no share; write for example 2% or 0.02") from error
    if not 0 < share <= 1:
        raise UsageError(f"--audit {text!r}: must be more than nothing and at most 100%")
    return share


def is_drawn(share: float, source: str, page: int, index: int) -> bool:
    """Whether a page's digit of an index is in the sample: by a hash, so that the same scan gives the same sample."""
    key = f"{source}\0{page}\0{index}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(key).digest()[:8]) < share * 2.0**64
