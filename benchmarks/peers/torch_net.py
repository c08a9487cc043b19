"""A network in PyTorch, eager, as it comes.  Imports no fastconv, so it may run in another environment."""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from benchmarks import nets
from benchmarks.peers import protocol


class Residual(nn.ModuleList):
    """The sum of a body and a shortcut; a list, so that their parameters are called '0.' and '1.'."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the two."""
        body, *shortcut = self
        return body(x) + (shortcut[0](x) if shortcut else x)


def sequential(layers: Sequence[nets.Layer]) -> nn.Sequential:
    """Return the layers one after another."""
    return nn.Sequential(*map(_layer, layers))


def _layer(layer: nets.Layer) -> nn.Module:
    match layer:
        case nets.Conv2d(channels, filters, taps, padding, stride, groups, bias):
            return nn.Conv2d(channels, filters, taps, stride, padding, groups=groups, bias=bias)
        case nets.BatchNorm2d(channels):
            return nn.BatchNorm2d(channels, nets.EPS, nets.TRACKED)
        case nets.ReLU():
            return nn.ReLU()
        case nets.MaxPool2d(size):
            return nn.MaxPool2d(size)
        case nets.GlobalAvgPool2d():
            return nn.AdaptiveAvgPool2d(1)
        case nets.Residual(body, shortcut):
            return Residual(sequential(branch) for branch in (body, shortcut) if branch)
        case nets.Flatten():
            return nn.Flatten()
        case nets.Linear(inputs, outputs):
            return nn.Linear(inputs, outputs)


class TorchNet:
    """The same work as fastconv's; attributes and ``index`` as in ``protocol.Peer``."""

    version = f"torch {torch.__version__}"
    layout = torch.contiguous_format

    def __init__(self, net: nets.Net, images: np.ndarray, labels: np.ndarray, weights: protocol.Weights) -> None:
        self.model = sequential(net.layers).to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]
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

    def logits(self, model: nn.Module, index: torch.Tensor) -> torch.Tensor:
        """Choose and normalise, forward."""
        x = self.images[index].float().sub_(255 * protocol.MEAN).div_(255 * protocol.STD)
        return model(x.contiguous(memory_format=self.layout))

    def mean_loss(self, index: torch.Tensor) -> torch.Tensor:
        """Choose and normalise, forward, cross-entropy."""
        return self.loss(self.logits(self.model, index), self.labels[index])

    def index(self, numbers: np.ndarray) -> torch.Tensor:
        """Return the numbers as a tensor."""
        return torch.from_numpy(numbers)

    def train(self, index: torch.Tensor) -> float:
        """Forward and loss, backward, momentum step."""
        if not self.model.training:
            self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.mean_loss(index)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self, index: torch.Tensor) -> torch.Tensor:
        """Forward alone."""
        if self.model.training:
            self.model.eval()
        with torch.inference_mode():
            return self.logits(self.model, index)


if __name__ == "__main__":
    sys.exit(protocol.main(TorchNet))
