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
        self._forward = self.logits
        self._forget()
        self.mean_loss = torch.compile(self.mean_loss, dynamic=False)

    def _forget(self) -> None:
        """Forget what was compiled: for another batch size, or for the weights of before."""
        torch.compiler.reset()
        self._frozen = torch.compile(self._forward, dynamic=False, options={"freezing": True})
        self._trained = False

    def train(self, index: torch.Tensor) -> float:
        """Forward and loss, backward, momentum step."""
        self._trained = True
        return super().train(index)

    def infer(self, index: torch.Tensor) -> torch.Tensor:
        """Forward alone."""
        if self._trained:
            self._forget()
        with torch.no_grad():
            return self._frozen(index)


if __name__ == "__main__":
    sys.exit(protocol.main(TorchCompileNet))
