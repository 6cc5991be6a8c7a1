"""Copybook: forms of digits that the collected hands hold few of, as paths for a pen.

MNIST's and UNIPEN's writers were taught much the same forms. Elsewhere a 1 has an upstroke as long as its stem, a 2
begins with a ring, a 5 is drawn like a root sign, a 7 has a foot, a 9 is a loop that crosses its own tail. A reader
that has never met them reads them as something else and is sure of it. So some of the maker's writers
(`hands.Habits.own_forms`) write some of their digits in one of these forms, each bent anew for every writer
(`Form.variant`) and once more for every digit (`hands.wave`).

The paths are our own, drawn from general knowledge of Latin American and European school hands; coordinates are x to
the right, y downwards, with the digit's height as the unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stroke = NDArray[np.float32]  # (P, 2), x to the right, y downwards
Path = tuple[tuple[float, float], ...]

BEND, SHAKE = 0.1, 0.012  # digit heights: how far a writer bends a form as a whole, and each of its points
WAVES = 4  # bends added up, each with a length of about the digit
SHEAR, STRETCH = 0.1, 0.16  # of a writer's form: x per y, and log of its width
ROUNDS = 3  # times the corners of a curved form are cut


@dataclass(frozen=True, slots=True)
class Form:
    """A way to write a digit.

    Attributes:
        paths: one for each time the pen is put down.
        curved: corners are rounded; else they stay as sharp as the pen allows.
    """

    paths: tuple[Path, ...]
    curved: bool = True

    def variant(self, rng: np.random.Generator) -> Form:
        """This form as one writer has it: bent as a whole, so that rings stay rings, wider or narrower, and slanted."""
        shear, stretch = SHEAR * rng.standard_normal(), np.exp(STRETCH * rng.standard_normal())
        along, phase = rng.normal(0, 3.0, (WAVES, 2)), rng.uniform(0, 2 * np.pi, WAVES)
        reach = rng.normal(0, BEND / WAVES**0.5, (WAVES, 2))
        bent = []
        for path in self.paths:
            points = np.array(path)
            points = points + np.sin(points @ along.T + phase) @ reach + SHAKE * rng.standard_normal(points.shape)
            points[:, 0] = stretch * points[:, 0] + shear * (0.5 - points[:, 1])
            bent.append(tuple((float(x), float(y)) for x, y in points))
        return Form(tuple(bent), self.curved)

    def strokes(self) -> list[Stroke]:
        """Float32 (P, 2) for each path; where it is curved, its corners are cut (Chaikin, 1974)."""
        return [_rounded(np.array(path, np.float32), ROUNDS if self.curved else 0) for path in self.paths]


def _rounded(stroke: Stroke, rounds: int) -> Stroke:
    """A stroke whose corners were cut so many times at a quarter of their sides; its ends stay."""
    for _ in range(rounds if len(stroke) > 2 else 0):
        near, far = stroke[:-1], stroke[1:]
        cut = np.stack([near + (far - near) / 4, far - (far - near) / 4], axis=1).reshape(-1, 2)
        stroke = np.concatenate([stroke[:1], cut[1:-1], stroke[-1:]])
    return stroke.astype(np.float32)


def _ring(x: float, y: float, wide: float, tall: float, start: float, turns: float) -> Path:
    """Points round an ellipse: centre, half sizes, where it starts (turns from the top, clockwise), how far it goes."""
    angles = 2 * np.pi * np.linspace(start, start + turns, max(3, round(abs(turns) * 14)))
    return tuple((x + wide * float(np.sin(a)), y - tall * float(np.cos(a))) for a in angles)


FORMS: dict[int, tuple[Form, ...]] = {
    0: (
        Form(((*_ring(0.33, 0.5, 0.33, 0.5, 0.05, -1.05), (0.2, 0.12), (0.3, 0.3)),)),  # ends in a curl inside
        Form(((*_ring(0.4, 0.52, 0.4, 0.45, 0.1, -1.0), (0.55, 0.0), (0.8, -0.05)),)),  # runs on to the right
        Form((_ring(0.35, 0.5, 0.35, 0.5, 0.08, -0.9),)),  # stays open
        Form((_ring(0.5, 0.5, 0.55, 0.5, -0.1, -1.1),)),  # wide
        Form((_ring(0.3, 0.5, 0.3, 0.5, 0.55, 1.05),)),  # begun below, clockwise
    ),
    1: (
        Form((((0.0, 0.6), (0.3, 0.0), (0.3, 1.0)),), curved=False),
        Form((((0.0, 0.95), (0.35, 0.0), (0.4, 1.0)),), curved=False),
        Form((((0.0, 0.35), (0.25, 0.0), (0.2, 1.0)), ((0.0, 1.0), (0.45, 0.98))), curved=False),
        Form((((0.0, 0.4), (0.2, 0.0), (0.4, 1.0), (0.65, 0.92)),), curved=False),
        Form((((0.3, 0.0), (0.0, 1.0)),), curved=False),
        Form((((0.45, 0.0), (0.0, 1.0)),), curved=False),
        Form((((0.0, 0.0), (0.0, 1.0)),), curved=False),
        Form((((0.0, 0.0), (0.25, 1.0)),), curved=False),
        Form((((0.0, 0.0), (0.08, 0.5), (0.3, 1.0)),)),
        Form((((0.3, 0.0), (0.05, 0.5), (0.0, 1.0)),)),
        Form((((0.1, 0.75), (0.3, 0.2), (0.25, 0.0), (0.15, 0.2), (0.18, 1.0)),)),  # up and down in a narrow loop
        Form((((0.0, 0.15), (0.18, 0.0), (0.2, 0.5), (0.2, 1.0)),)),
        Form((((0.2, 0.0), (0.15, 0.85), (0.25, 1.0), (0.45, 0.9)),)),
    ),
    2: (
        Form(((*_ring(0.35, 0.3, 0.35, 0.3, 0.5, 1.1), (0.35, 0.8), (0.1, 1.0), (0.75, 0.97)),)),  # a ring on a foot
        Form(((*_ring(0.32, 0.27, 0.3, 0.27, 0.6, 0.95), (0.2, 0.85), (0.0, 1.0), (0.7, 0.95)),)),
        Form(((*_ring(0.35, 0.25, 0.3, 0.25, 0.45, 0.95), (0.3, 0.85), (0.02, 0.97), (0.2, 0.8), (0.8, 1.0)),)),
        Form((((0.3, 0.3), (0.1, 0.4), (0.05, 0.1), (0.4, 0.0), (0.6, 0.25), (0.0, 1.0), (0.65, 1.0)),)),
        Form((((0.0, 0.1), (0.5, 0.0), (0.45, 0.4), (0.0, 1.0), (0.6, 0.95)),), curved=False),  # like a Z
        Form((((0.05, 0.2), (0.3, 0.0), (0.55, 0.25), (0.2, 0.85), (0.05, 0.9), (0.2, 0.78), (0.75, 1.0)),)),
    ),
    3: (
        Form((((0.0, 0.02), (0.55, 0.0), (0.2, 0.4), (0.6, 0.65), (0.4, 1.0), (0.0, 0.92)),)),
        Form((((0.0, 0.05), (0.6, 0.0), (0.15, 0.42), (0.55, 0.5), (0.55, 0.9), (0.0, 0.98)),), curved=False),
        Form(
            (((0.05, 0.2), (0.4, 0.0), (0.5, 0.25), (0.15, 0.5), (0.25, 0.42), (0.65, 0.7), (0.3, 1.0), (0.0, 0.85)),)
        ),
    ),
    4: (
        Form((((0.1, 0.05), (0.0, 0.55), (0.6, 0.5)), ((0.5, 0.2), (0.45, 1.0))), curved=False),
        Form((((0.1, 0.0), (0.0, 0.4), (0.2, 0.55), (0.55, 0.45)), ((0.6, 0.0), (0.5, 1.0)))),  # like a Cyrillic che
        Form((((0.35, 0.0), (0.0, 0.75), (0.75, 0.72)), ((0.45, 0.4), (0.4, 1.0))), curved=False),
        Form((((0.5, 0.0), (0.0, 0.6), (0.6, 0.6)), ((0.55, 0.45), (0.5, 1.0))), curved=False),
        Form((((0.15, 0.0), (0.0, 0.5), (0.45, 0.55), (0.6, 0.05), (0.5, 1.0)),)),
        Form((((0.35, 0.0), (0.0, 0.5), (0.45, 0.45), (0.35, 1.0)),), curved=False),  # like an S with corners
        Form((((0.4, 0.0), (0.0, 0.65), (0.6, 0.6), (0.6, 0.2), (0.5, 1.0)),), curved=False),
        Form((((0.05, 0.0), (0.05, 0.5), (0.35, 0.5), (0.45, 0.0), (0.4, 1.0)),), curved=False),
        Form((((0.4, 0.0), (0.02, 0.85), (0.7, 0.8)), ((0.5, 0.6), (0.5, 1.0))), curved=False),
    ),
    5: (
        Form((((0.0, 0.45), (0.15, 0.5), (0.25, 1.0), (0.5, 0.1), (0.55, 0.0), (1.0, 0.0)),), curved=False),  # a root
        Form((((0.0, 0.6), (0.15, 0.95), (0.25, 1.0), (0.4, 0.3), (0.45, 0.05), (0.95, 0.0)),)),
        Form((((0.0, 0.55), (0.2, 1.0), (0.45, 0.15)), ((0.4, 0.05), (0.95, 0.0))), curved=False),
        Form((((0.7, 0.0), (0.1, 0.05), (0.1, 0.4), (0.5, 0.6), (0.45, 0.95), (0.0, 0.95)),)),  # like an S
        Form((((0.75, 0.02), (0.15, 0.0), (0.1, 0.35), (0.65, 0.55), (0.6, 0.95), (0.0, 1.0)),)),
        Form((((0.9, 0.0), (0.4, 0.02), (0.42, 0.6), (0.3, 1.0), (0.0, 0.85)),)),  # like a J under a bar
        Form((((0.4, 0.05), (0.35, 0.45), (0.65, 0.65), (0.45, 1.0), (0.0, 0.9)), ((0.4, 0.05), (0.95, 0.0)))),
        Form(
            (((0.2, 0.0), (0.15, 0.4), (0.55, 0.5), (0.5, 0.95), (0.0, 0.95)), ((0.2, 0.05), (0.7, 0.02))), curved=False
        ),
    ),
    6: (
        Form((((0.5, 0.02), (0.05, 0.4), (0.05, 0.85), *_ring(0.35, 0.68, 0.32, 0.32, 0.6, -1.0)),)),
        Form((((0.25, 0.0), *_ring(0.4, 0.58, 0.4, 0.42, -0.2, -1.05)),)),  # hardly a stem
        Form((((0.15, 0.0), (0.0, 0.55), *_ring(0.3, 0.68, 0.3, 0.32, 0.7, -1.0)),)),  # like a b
        Form((((0.55, 0.0), (0.15, 0.3), (0.0, 0.7), (0.25, 1.0), (0.5, 0.75), (0.3, 0.6), (0.1, 0.7)),)),
    ),
    7: (
        Form((((0.0, 0.1), (0.05, 0.0), (0.6, 0.0), (0.3, 1.0)), ((0.15, 0.5), (0.65, 0.45))), curved=False),
        Form(
            (((0.0, 0.12), (0.2, 0.0), (0.4, 0.08), (0.65, 0.0), (0.35, 0.5), (0.3, 1.0)), ((0.1, 0.52), (0.7, 0.48)))
        ),
        Form((((0.0, 0.05), (0.6, 0.0), (0.45, 0.5), (0.2, 1.0)), ((0.1, 0.75), (0.65, 0.6))), curved=False),
        Form((((0.05, 0.12), (0.25, 0.0), (0.5, 0.1), (0.3, 0.55), (0.25, 1.0)), ((0.0, 0.5), (0.6, 0.5)))),
        Form((((0.0, 0.05), (0.55, 0.0), (0.35, 1.0), (0.6, 0.98)),), curved=False),  # with a foot
        Form((((0.0, 0.0), (0.65, 0.0), (0.55, 0.45), (0.5, 1.0)),)),
        Form(
            (((0.1, 0.25), (0.05, 0.05), (0.35, 0.0), (0.5, 0.2), (0.3, 0.7), (0.3, 1.0)), ((0.0, 0.62), (0.6, 0.55)))
        ),
        Form((((0.2, 0.3), (0.0, 0.15), (0.2, 0.0), (0.4, 0.2), (0.25, 1.0)), ((0.0, 0.6), (0.5, 0.6)))),  # with a loop
        Form((((0.05, 0.2), (0.0, 0.0), (0.6, 0.02), (0.1, 1.0)),), curved=False),
        Form(
            (((0.1, 0.15), (0.3, 0.0), (0.3, 0.5), (0.2, 1.0)), ((0.0, 0.55), (0.55, 0.5)))
        ),  # little more than a cross
    ),
    8: (
        Form((((0.55, 0.1), (0.25, 0.0), (0.1, 0.25), (0.6, 0.7), (0.3, 1.0), (0.05, 0.75), (0.6, 0.1)),)),
        Form((_ring(0.3, 0.25, 0.22, 0.25, 0.45, 1.0), _ring(0.3, 0.75, 0.3, 0.26, 0.0, 1.05))),  # two rings
        Form((((0.5, 0.0), (0.1, 0.15), (0.2, 0.45), (0.6, 0.75), (0.3, 1.0), (0.0, 0.8), (0.5, 0.3), (0.65, 0.05)),)),
    ),
    9: (
        # Loops that cross their own tail: like an e, a rho or a lower-case l on one leg.
        Form(
            (((0.05, 0.55), (0.5, 0.4), (0.7, 0.15), (0.45, 0.0), (0.15, 0.15), (0.2, 0.5), (0.45, 0.75), (0.35, 1.0)),)
        ),
        Form((((0.0, 0.5), (0.4, 0.35), (0.55, 0.1), (0.35, 0.0), (0.1, 0.25), (0.15, 0.7), (0.3, 1.0)),)),
        Form((((0.1, 0.5), (0.55, 0.25), (0.5, 0.0), (0.25, 0.1), (0.2, 0.45), (0.3, 0.7), (0.2, 1.0)),)),
        Form(((*_ring(0.35, 0.24, 0.33, 0.24, -0.35, 1.05), (0.25, 0.5), (0.5, 0.7), (0.4, 1.0)),)),
        Form(((*_ring(0.4, 0.22, 0.4, 0.22, -0.3, 1.0), (0.2, 0.42), (0.55, 0.6), (0.6, 1.0)),)),
        Form(((*_ring(0.3, 0.25, 0.28, 0.25, 0.6, 0.9), (0.3, 0.55), (0.28, 1.0)),)),  # a ring on a stem
        Form(((*_ring(0.3, 0.25, 0.28, 0.25, 0.15, -1.05), (0.5, 0.6), (0.5, 1.0)),)),
        Form(((*_ring(0.35, 0.22, 0.38, 0.22, 0.2, -1.0), (0.6, 0.5), (0.75, 1.0)),)),  # a flat ring, a leg
        Form((((0.55, 0.05), (0.2, 0.0), (0.05, 0.25), (0.3, 0.4), (0.5, 0.15), (0.45, 1.0)),)),
        Form((((0.5, 0.15), (0.4, 0.0), (0.1, 0.1), (0.1, 0.35), (0.4, 0.4), (0.55, 0.1), (0.4, 0.9), (0.0, 0.95)),)),
    ),
}
