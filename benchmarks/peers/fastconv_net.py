"""A network in fastconv."""

import sys

import numpy as np

import fastconv as fc
from benchmarks import nets
from benchmarks.peers import protocol
from fastconv import blocks
from fastconv.training.step import checked_step


def _layer(layer: nets.Layer) -> fc.Layer:
    match layer:
        case nets.Conv2d(channels, filters, taps, padding, stride, groups, bias):
            return fc.Conv2d(channels, filters, taps, stride, padding, groups=groups, bias=bias)
        case nets.BatchNorm2d(channels):
            return fc.BatchNorm2d(channels, nets.EPS, nets.TRACKED)
        case nets.ReLU():
            return fc.ReLU()
        case nets.MaxPool2d(size):
            return fc.MaxPool2d(size)
        case nets.GlobalAvgPool2d():
            return fc.GlobalAvgPool2d()
        case nets.Residual(body, shortcut):
            return fc.Residual(*(fc.Sequential(*map(_layer, branch)) for branch in (body, shortcut) if branch))
        case nets.Flatten():
            return fc.Flatten()
        case nets.Linear(inputs, outputs):
            return fc.Linear(inputs, outputs)


def build(net: nets.Net, seed: int = 0) -> fc.Sequential:
    """Return the network with initial weights drawn from ``seed``."""
    return fc.Sequential(*map(_layer, net.layers), seed=seed)


class FastconvNet:
    """The steps that ``model.fit`` takes; attributes and ``index`` as in ``protocol.Peer``."""

    version = f"fastconv {fc.__version__}"

    def __init__(self, net: nets.Net, images: np.ndarray, labels: np.ndarray, weights: protocol.Weights) -> None:
        self.model = build(net)
        self.model.load_state_dict(dict(weights))
        self.model.normalization = fc.Normalization((protocol.MEAN,), (protocol.STD,))
        self.loss = fc.CrossEntropyLoss()
        self.optimizer = fc.SGD(lr=protocol.LR, momentum=protocol.MOMENTUM)
        self.images, self.labels, self.threads = images, labels, fc.get_num_threads()
        self.works: protocol.Works = {"training": self.train, "inference": self.infer}

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
    sys.exit(protocol.main(FastconvNet))
