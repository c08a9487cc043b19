"""LeNet-5 in fastconv, for ``benchmarks.step``."""

import sys
from collections.abc import Mapping

import numpy as np

import fastconv as fc
from benchmarks.peers import protocol
from fastconv import blocks
from fastconv.training.step import checked_step


class FastconvLeNet:
    """The steps that ``model.fit`` takes; arguments and methods as in ``protocol.Peer``."""

    library = f"fastconv {fc.__version__}"

    def __init__(self, images: np.ndarray, labels: np.ndarray, weights: Mapping[str, np.ndarray]) -> None:
        self.model = fc.models.lenet5()
        self.model.load_state_dict(dict(weights))
        self.model.normalization = fc.Normalization((protocol.MEAN,), (protocol.STD,))
        self.loss = fc.CrossEntropyLoss()
        self.optimizer = fc.SGD(lr=protocol.LR, momentum=protocol.MOMENTUM)
        self.images, self.labels, self.threads = images, labels, fc.get_num_threads()

    def index(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers as they are."""
        return numbers

    def train(self, index: np.ndarray) -> float:
        """Pack and normalise, forward, loss, backward, momentum step."""
        target = self.labels[index]
        return checked_step(self.model, self.loss, self.optimizer, self.images, index, target, 1.0).value

    def infer(self, index: np.ndarray) -> np.ndarray:
        """Pack and normalise, forward, logits out of their lane blocks."""
        return blocks.unpack(self.model.run_batch(self.images, index))


if __name__ == "__main__":
    sys.exit(protocol.main(FastconvLeNet))
