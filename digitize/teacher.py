"""Learning from trained classifiers: what they say of a tile stands beside its label.

A network that is too small to learn every distorted digit by heart learns more from what several others, or a larger
one, take each for than from its label alone (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural
Network"). They are asked of the very tile that it sees, distorted as it is (Beyer et al. 2022, "Knowledge Distillation:
A Good Teacher Is Patient and Consistent"). Ours differs in that the label stands in the softened target, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitize import datasets, models
from digitize.classify import Classifier
from digitize.errors import ModelError
from digitize.normalise import VIEWS

# Set beforehand and tried with no other values.
TRUST = 0.7  # the teachers' part of the target; the rest is the label's
SOFTNESS = 2.0  # temperature at which teachers and student are compared: what else a digit might be counts for more

Targets = NDArray[np.float32]  # (N, classes), rows sum to 1


class Teachers:
    """Trained classifiers that are asked together, on the CPU, so that a run is the same wherever it goes on.

    Attributes:
        entries: what a card says of each: its name, the hash of its tflite file, and what it was trained on.
    """

    def __init__(self, names: Sequence[Path], *, classes: int) -> None:
        """Load them.

        Args:
            names: of models, or their folders; at least one.
            classes: that the student knows.

        Raises:
            ModelError: one is missing, disagrees with its card, or knows more or fewer classes than the student: it
                would teach that what is no digit is one.
        """
        folders = [models.find(name) for name in names]
        self._teachers = [Classifier(folder, device="cpu") for folder in folders]
        for folder, teacher in zip(folders, self._teachers, strict=True):
            if teacher.classes != classes:
                raise ModelError(
                    f"{folder} knows {teacher.classes} classes, what it is to teach {classes}: choose another --teacher"
                )
        self.entries = [teacher.card.origin(models.TFLITE_FILE) for teacher in self._teachers]

    def targets(self, tiles: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Targets:
        """What the student is to say of tiles, at the temperature `SOFTNESS`.

        Args:
            tiles: uint8 (N, 28, 28, 1 or 2), as the student sees them; a teacher of two views sees nothing around a
                tile of one.
            labels: uint8 (N,).

        Returns:
            The mean of the teachers' answers, softened, and the label, by `TRUST`.
        """
        seen = tiles if tiles.shape[-1] == VIEWS else datasets.as_tiles(tiles[..., 0])
        said: Targets = np.sum([teacher.probabilities(seen) for teacher in self._teachers], axis=0)
        said **= np.float32(1 / SOFTNESS)
        said *= TRUST / said.sum(axis=1, keepdims=True)
        said[np.arange(len(labels)), labels] += 1 - TRUST
        return said


def softened_loss() -> Callable[[Any, Any], Any]:
    """Divergence of logits at `SOFTNESS` from targets, 0 at best.

    It is the cross-entropy less that of the targets themselves (Kullback & Leibler 1951), times the square of
    `SOFTNESS`, so that gradients keep their size.
    """
    import keras
    from keras import ops

    def loss(targets: Any, logits: Any) -> Any:
        crossed = keras.losses.categorical_crossentropy(targets, logits / SOFTNESS, from_logits=True)
        own = -ops.sum(targets * ops.log(ops.maximum(targets, keras.config.epsilon())), axis=-1)
        return SOFTNESS**2 * (crossed - own)

    return loss
