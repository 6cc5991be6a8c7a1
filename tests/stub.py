"""What the tests draw with and read with: pen digits on paper, and a classifier that knows those digits alone.

The digits are polylines in a box one high, so that they look the same whatever OpenCV's fonts are. The classifier
compares tiles with templates of the same digits: no network, no TensorFlow, and it can say "no digit".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize import detect, drills, models
from digitize.context import Context
from digitize.errors import DeviceError
from digitize.normalise import fit_digit
from digitize.records import NO_DIGIT, Box, Digit, Gray, Mask, PageReading, Probabilities, Tiles

PEN = 0.11  # digit heights: width of a stroke
PENS = (0.07, 0.11, 0.16)  # that the classifier knows
SHARPNESS = 40.0  # of the softmax over correlations
ALIKE = 0.84  # correlation with a template below which a tile is no digit


def _arc(centre: tuple[float, float], radius: tuple[float, float], first: float, last: float) -> list[tuple]:
    angles = np.radians(np.linspace(first, last, 25))
    return [(centre[0] + radius[0] * np.cos(a), centre[1] + radius[1] * np.sin(a)) for a in angles]


# x, y in digit heights, y downwards; strokes of one digit touch.
STROKES: dict[int, list[list[tuple]]] = {
    0: [_arc((0.32, 0.5), (0.32, 0.5), 0, 360)],
    1: [[(0.0, 0.25), (0.22, 0.0), (0.22, 1.0)]],
    2: [[*_arc((0.3, 0.28), (0.3, 0.28), -170, 30), (0.0, 1.0), (0.62, 1.0)]],
    3: [[(0.0, 0.0), (0.58, 0.0), (0.24, 0.4), *_arc((0.28, 0.69), (0.32, 0.31), -80, 150)]],
    4: [[(0.42, 0.0), (0.0, 0.66), (0.66, 0.66)], [(0.5, 0.35), (0.5, 1.0)]],
    5: [[(0.56, 0.0), (0.08, 0.0), (0.04, 0.45), *_arc((0.27, 0.69), (0.33, 0.31), -110, 150)]],
    6: [[(0.46, 0.0), (0.1, 0.45)], _arc((0.3, 0.7), (0.3, 0.3), 0, 360)],
    7: [[(0.0, 0.0), (0.6, 0.0), (0.22, 1.0)]],
    8: [_arc((0.3, 0.24), (0.25, 0.24), 0, 360), _arc((0.3, 0.74), (0.3, 0.26), 0, 360)],
    9: [_arc((0.3, 0.3), (0.28, 0.3), 0, 360), [(0.58, 0.3), (0.5, 1.0)]],
}


def draw_digit(value: int, height: int, *, pen: float | None = None) -> Gray:
    """One digit, tight: uint8 (height, w), 0 paper to 255 ink, with gray edges; `pen` in pixels."""
    thick = PEN * height if pen is None else pen
    fine = 4 if height < 120 else 2  # drawn larger and made small, for gray edges at any size
    size = (height - thick) * fine
    drawn = np.zeros((round(height * fine), round((0.8 * height + thick) * fine)), np.uint8)
    for stroke in STROKES[value]:
        points = np.array(stroke) * size + thick * fine / 2
        cv2.polylines(drawn, [points.round().astype(np.int32)], False, 255, max(1, round(thick * fine)))
    small = cv2.resize(drawn, (drawn.shape[1] // fine, height), interpolation=cv2.INTER_AREA)
    filled = np.flatnonzero(small.any(axis=0))
    return np.asarray(small[:, filled[0] : filled[-1] + 1], np.uint8)


def digit_mask(value: int, height: int, *, pen: float | None = None) -> Mask:
    """One digit as bare ink: bool (height, w)."""
    return draw_digit(value, height, pen=pen) >= 128


@dataclass
class Paper:
    """Paper to draw on: float32 (H, W) of how much ink lies where."""

    height: int
    width: int
    ink: NDArray[np.float32] = field(init=False, repr=False)
    boxes: list[Box] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ink = np.zeros((self.height, self.width), np.float32)

    def put(self, drawn: Gray, left: int, top: int) -> Box:
        """Lay ink, uint8 (h, w), on the paper."""
        box = Box(left, top, drawn.shape[1], drawn.shape[0])
        view = self.ink[top : box.bottom, left : box.right]
        np.maximum(view, drawn[: view.shape[0], : view.shape[1]].astype(np.float32) / 255, out=view)
        return box

    def digit(self, value: int, left: int, top: int, *, height: int = 40, pen: float | None = None) -> Box:
        """Write one digit."""
        self.boxes.append(self.put(draw_digit(value, height, pen=pen), left, top))
        return self.boxes[-1]

    def number(self, text: str, left: int, top: int, *, height: int = 40, gap: float = 0.3) -> Box:
        """Write digits one beside the other, `gap` digit heights apart."""
        first = len(self.boxes)
        for letter in text:
            left = self.digit(int(letter), left, top, height=height).right + round(gap * height)
        return Box.around(self.boxes[first:])

    def line(self, start: tuple[float, float], end: tuple[float, float], thickness: int = 2) -> None:
        """Rule a line from (x, y) to (x, y)."""
        ends = [tuple(round(v) for v in point) for point in (start, end)]
        cv2.line(self.ink, ends[0], ends[1], 1.0, thickness)

    def frame(self, box: Box, thickness: int = 2) -> None:
        """Rule a rectangle."""
        cv2.rectangle(self.ink, (box.left, box.top), (box.right - 1, box.bottom - 1), 1.0, thickness)

    def gray(self, *, paper: float | NDArray[np.float32] = 245.0, pen: float = 40.0) -> Gray:
        """The sheet as scanned: uint8 (H, W)."""
        return np.clip(paper + (pen - paper) * self.ink, 0, 255).round().astype(np.uint8)


def _features(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Blurred tiles as unit vectors: float32 (N, 196)."""
    small = [cv2.resize(cv2.GaussianBlur(tile, (0, 0), 1.2), (14, 14), interpolation=cv2.INTER_AREA) for tile in tiles]
    flat = np.array(small, np.float32).reshape(len(tiles), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


@cache
def _templates() -> NDArray[np.float32]:
    return np.stack([_features(np.stack([fit_digit(digit_mask(v, 60, pen=p * 60)) for v in range(10)])) for p in PENS])


class Stub:
    """A classifier of drawn digits; it keeps the number of tiles of each call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def probabilities(self, tiles: Tiles) -> Probabilities:
        """Float32 (N, 11): how much each tile is like each drawn digit, and like none."""
        self.calls.append(len(tiles))
        if not len(tiles):
            return np.zeros((0, NO_DIGIT + 1), np.float32)
        alike = np.einsum("nf,pvf->npv", _features(tiles[..., 0]), _templates()).max(axis=1)
        power = SHARPNESS * np.c_[alike, np.full(len(tiles), ALIKE)]
        power = np.exp(power - power.max(axis=1, keepdims=True))
        return np.asarray(power / power.sum(axis=1, keepdims=True), np.float32)


class StubModel(Stub):
    """What stands in for `classify.Classifier`: the stub, with a card, on a machine without a GPU."""

    def __init__(
        self, folder: Path, *, device: str = "auto", batch_size: int = 1024, threads: int | None = None
    ) -> None:
        super().__init__()
        if device.startswith("gpu"):
            raise DeviceError(f"no {device} is seen: use --device cpu or auto")
        self.card = models.load_card(folder)
        self.device = "cpu"
        self.description = f"model {self.card.name}, a stub"


class StubDetector:
    """A detector of drawn digits: each connected piece of a block that is like one is found where it stands."""

    def __init__(self, folder: Path | None = None, *, device: str = "auto", threads: int | None = None) -> None:
        self.calls: list[int] = []
        self.device = device
        self.context: Context | None = None
        if folder is not None:
            self.card = models.load_card(folder)

    def answers(self, blocks: detect.Blocks) -> detect.Answers:
        """What a perfect detector says of each block: float32 (N, 32, 128, 15)."""
        self.calls.append(len(blocks))
        return np.stack([answer_for(self._boxes(block[..., 0])) for block in blocks])

    def _boxes(self, block: Gray) -> drills.Boxes:
        _, labels, stats, _ = cv2.connectedComponentsWithStats((block > 90).astype(np.uint8), connectivity=8)
        boxes = []
        for k, (left, top, width, height, _) in enumerate(stats.tolist()):
            if k == 0 or height < 8:
                continue
            tile = fit_digit(labels[top : top + height, left : left + width] == k)
            alike = np.einsum("nf,pvf->npv", _features(tile[None]), _templates()).max(axis=1)[0]
            if alike.max() >= ALIKE:
                boxes.append([int(alike.argmax()), left, top, left + width, top + height])
        return np.array(boxes, np.float32).reshape(-1, 5)


def answer_for(boxes: drills.Boxes) -> detect.Answers:
    """What a perfect detector says of a block with these digits: float32 (32, 128, 15)."""
    asked = drills.ask(boxes)
    answer = np.zeros((*asked.shape[:2], detect.CHANNELS), np.float32)
    answer[..., 0] = 15 * asked[..., 0] - 9
    answer[..., 1:11] = 12 * (asked[..., 2:3] == np.arange(10)) * (asked[..., 1:2] > 0)
    answer[..., 11:] = asked[..., 3:]
    return answer


def write_model(folder: Path) -> Path:
    """A model folder whose card agrees with its files, though neither can be run."""
    folder.mkdir(parents=True)
    (folder / models.KERAS_FILE).write_bytes(b"keras")
    (folder / models.TFLITE_FILE).write_bytes(b"tflite")
    models.write_card(
        folder,
        {
            "name": "stub",
            "network": "duet",
            "views": 2,
            "classes": [*models.DIGIT_CLASSES, "none"],
            "calibration": {"temperature": 1.0},
        },
    )
    return folder


def texts(page: PageReading) -> list[list[str]]:
    """What a page says: for each line the numbers."""
    return [[number.text for number in line.numbers] for line in page.lines]


def digits_of(page: PageReading) -> list[Digit]:
    """The digits of a page in reading order."""
    return [digit for *_, digit in page.digits()]
