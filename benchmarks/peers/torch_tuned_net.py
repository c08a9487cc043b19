"""A network in PyTorch, eager, with images channels last in memory: 1.1 to 1.6 times as fast as it comes."""

import sys

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.peers import protocol
from benchmarks.peers.torch_net import Residual, TorchNet


def folded(model: nn.Module) -> nn.Module:
    """Return the model, in evaluation, with each normalisation a part of the convolution before it."""
    if isinstance(model, Residual):
        return Residual(map(folded, model))
    if not isinstance(model, nn.Sequential):
        return model
    layers: list[nn.Module] = []
    for layer in map(folded, model):
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


class TunedTorchNet(TorchNet):
    """The same in another layout, and in inference with normalisations folded, once for the weights as they are."""

    layout = torch.channels_last
    folded: nn.Module | None = None

    def train(self, index: torch.Tensor) -> float:
        """Forward and loss, backward, momentum step."""
        self.folded = None
        return super().train(index)

    def infer(self, index: torch.Tensor) -> torch.Tensor:
        """Forward alone."""
        if self.folded is None:
            self.fold()
        with torch.inference_mode():
            return self.evaluate(index)

    def fold(self) -> None:
        """Fold the weights as they are."""
        self.folded = folded(self.model.eval())

    def evaluate(self, index: torch.Tensor) -> torch.Tensor:
        """Choose and normalise, forward with normalisations folded."""
        assert self.folded is not None
        return self.logits(self.folded, index)


if __name__ == "__main__":
    sys.exit(protocol.main(TunedTorchNet))
