"""A network in PyTorch, eager, as it comes.  Imports no fastconv, so it may run in another environment."""

import sys

import numpy as np
import torch
from torch import nn

from benchmarks import nets
from benchmarks.peers import protocol


def _layer(layer: nets.Layer) -> nn.Module:
    match layer:
        case nets.Conv2d(channels, filters, taps, padding):
            return nn.Conv2d(channels, filters, taps, padding=padding)
        case nets.ReLU():
            return nn.ReLU()
        case nets.MaxPool2d(size):
            return nn.MaxPool2d(size)
        case nets.Flatten():
            return nn.Flatten()
        case nets.Linear(inputs, outputs):
            return nn.Linear(inputs, outputs)


class TorchNet:
    """The same work as fastconv's; attributes and ``index`` as in ``protocol.Peer``."""

    version = f"torch {torch.__version__}"
    layout = torch.contiguous_format

    def __init__(self, net: nets.Net, images: np.ndarray, labels: np.ndarray, weights: protocol.Weights) -> None:
        self.model = nn.Sequential(*map(_layer, net.layers)).to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]
        self.model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self.loss = nn.CrossEntropyLoss()
        # One pass over each parameter: the fastest of the three that PyTorch has, or as fast.
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=protocol.LR, momentum=protocol.MOMENTUM, fused=True
        )
        self.images = torch.from_numpy(images).contiguous(memory_format=self.layout)
        self.labels = torch.from_numpy(labels)
        self.threads = torch.get_num_threads()
        self.works: protocol.Works = {"training": self.train, "inference": self.infer}

    def logits(self, index: torch.Tensor) -> torch.Tensor:
        """Choose and normalise, forward."""
        x = self.images[index].float().sub_(255 * protocol.MEAN).div_(255 * protocol.STD)
        return self.model(x.contiguous(memory_format=self.layout))

    def mean_loss(self, index: torch.Tensor) -> torch.Tensor:
        """Choose and normalise, forward, cross-entropy."""
        return self.loss(self.logits(index), self.labels[index])

    def index(self, numbers: np.ndarray) -> torch.Tensor:
        """Return the numbers as a tensor."""
        return torch.from_numpy(numbers)

    def train(self, index: torch.Tensor) -> float:
        """Forward and loss, backward, momentum step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.mean_loss(index)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self, index: torch.Tensor) -> torch.Tensor:
        """Forward alone."""
        with torch.inference_mode():
            return self.logits(index)


if __name__ == "__main__":
    sys.exit(protocol.main(TorchNet))
