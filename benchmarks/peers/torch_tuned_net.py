"""A network in PyTorch, eager, with images channels last in memory: 1.1 to 1.6 times as fast as it comes."""

import sys

import torch

from benchmarks.peers import protocol
from benchmarks.peers.torch_net import TorchNet


class TunedTorchNet(TorchNet):
    """The same in another layout."""

    layout = torch.channels_last


if __name__ == "__main__":
    sys.exit(protocol.main(TunedTorchNet))
