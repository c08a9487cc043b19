"""A network in PyTorch under ``torch.compile``.  Imports no fastconv, so it may run in another environment."""

import sys

import numpy as np
import torch

from benchmarks import nets
from benchmarks.peers import protocol
from benchmarks.peers.torch_tuned_net import TunedTorchNet


class TorchCompileNet(TunedTorchNet):
    """The eager net with compiled passes; the fused optimiser, which is one call, is as fast as a compiled one.

    Inference is compiled with the weights as constants ("freezing"), up to a tenth faster, and again after training.
    """

    def __init__(self, net: nets.Net, images: np.ndarray, labels: np.ndarray, weights: protocol.Weights) -> None:
        super().__init__(net, images, labels, weights)
        self.mean_loss = torch.compile(self.mean_loss, dynamic=False)

    def fold(self) -> None:
        """Fold the weights as they are, and forget what was compiled: for those before, or another batch size."""
        super().fold()
        torch.compiler.reset()
        self._frozen = torch.compile(self.evaluate, dynamic=False, options={"freezing": True})

    def infer(self, index: torch.Tensor) -> torch.Tensor:
        """Forward alone."""
        if self.folded is None:
            self.fold()
        with torch.no_grad():
            return self._frozen(index)


if __name__ == "__main__":
    sys.exit(protocol.main(TorchCompileNet))
