"""Several models as one: their mean probabilities."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastconv import blocks
from fastconv.sequential import Sequential
from fastconv.shapes import Shape, ShapeError
from fastconv.training.evaluation import BATCH, of_probabilities

if TYPE_CHECKING:
    from fastconv.augment import Augment


def mean_of(probabilities: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of arrays of one shape, float64, added in their order."""
    total, count = np.float64(0), 0
    for part in probabilities:
        total, count = total + part.astype(np.float64), count + 1
    return np.asarray(total / count)


class Ensemble:
    """Models that were trained apart and answer together.

    Parameters
    ----------
    models : sequence of Sequential
        That tell the same classes apart.

    Attributes
    ----------
    models : tuple of Sequential

    Raises
    ------
    TypeError
        If one is no Sequential.
    ValueError
        If there is none.
    """

    def __init__(self, models: Sequence[Sequential]) -> None:
        self.models = tuple(models)
        if not self.models:
            raise ValueError("Ensemble: expected at least one model, got none")
        for number, model in enumerate(self.models):
            if not isinstance(model, Sequential):
                raise TypeError(f"Ensemble: expected models, got {type(model).__name__} at position {number}")

    def __len__(self) -> int:
        return len(self.models)

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self)} models>"

    def output_shape(self, shape: Shape) -> Shape:
        """Return the outputs' shape for an input's, both with the batch axis.

        Raises
        ------
        ShapeError
            If a model cannot take such an input, or the models' outputs differ.
        """
        shapes = [model.output_shape(shape) for model in self.models]
        for number, other in enumerate(shapes):
            if other != shapes[0]:
                raise ShapeError(
                    f"Ensemble: expected outputs of one shape, got {shapes[0]} from model 0 and {other} from model "
                    f"{number}"
                )
        return shapes[0]

    def predict_proba(
        self,
        x: np.ndarray,
        batch_size: int = BATCH,
        tta: int = 1,
        augment: "Augment | str | None" = None,
        seed: int = 0,
    ) -> np.ndarray:
        """Return the mean of the models' probabilities, float64[N, classes], added in the models' order.

        The arguments are those of ``Sequential.predict_proba``; all models see the same views.
        """
        self.output_shape(blocks.as_array("Ensemble", "x", x).shape)
        return mean_of(model.predict_proba(x, batch_size, tta, augment, seed) for model in self.models)

    def predict(
        self,
        x: np.ndarray,
        batch_size: int = BATCH,
        tta: int = 1,
        augment: "Augment | str | None" = None,
        seed: int = 0,
    ) -> np.ndarray:
        """Return the class of the highest mean probability of each image, int64[N]; the first of equal ones."""
        return self.predict_proba(x, batch_size, tta, augment, seed).argmax(axis=1)

    def evaluate(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int = BATCH,
        tta: int = 1,
        augment: "Augment | str | None" = None,
        seed: int = 0,
    ) -> dict[str, float]:
        """Return {"loss": mean cross-entropy of the mean probabilities, "accuracy": fraction right}.

        Parameters and errors are those of ``Sequential.evaluate``.
        """
        return of_probabilities(self.predict_proba(x, batch_size, tta, augment, seed), y)
