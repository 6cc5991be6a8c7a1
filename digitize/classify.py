"""Stage: tiles to probabilities, in batches, on CPU or GPU; `engine.py` runs the model.

Probabilities are the network's softmax with its temperature; `scan.py` turns what the decoder makes of them into
confidences, by the curve of `confidence.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from digitize.engine import Engine
from digitize.records import TILE_SIDE, Probabilities, Tiles

BATCH_SIZE = 1024  # tiles at once, at most
CPU_PIECE = 256  # tiles LiteRT takes at a time


class Classifier:
    """A loaded model: tiles in, probabilities out.

    Attributes:
        card: what the model says of itself.
        device: "cpu" or "gpu:N".
        description: one line that says which model runs where.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        threads: int | None = None,
    ) -> None:
        """Load a model; arguments and errors are those of `engine.Engine`, `batch_size` counts tiles."""
        self._engine = Engine(
            folder, task="classify", device=device, threads=threads, batch_size=batch_size, piece_size=CPU_PIECE
        )
        self.card = self._engine.card
        self.device = self._engine.device
        self.description = f"model {self.card.name} on {self._engine.where}"

    @property
    def classes(self) -> int:
        """How many classes: ten digits, or eleven with "no digit"."""
        return len(self.card.classes)

    def probabilities(self, tiles: Tiles) -> Probabilities:
        """Classify tiles.

        Args:
            tiles: uint8 (N, 28, 28, 2), 0 paper to 255 ink, any N; a model of one view leaves the second aside.

        Returns:
            float32 (N, classes), rows sum to 1. May be called from several threads; they take turns.

        Raises:
            ValueError: the tiles have another shape or type.
        """
        if tiles.ndim != 4 or tiles.shape[1:] != (TILE_SIDE, TILE_SIDE, 2) or tiles.dtype != np.uint8:
            raise ValueError(f"tiles are {tiles.dtype} {tiles.shape}, expected uint8 (N, {TILE_SIDE}, {TILE_SIDE}, 2)")
        return self._engine.run(tiles[..., : self.card.views])
