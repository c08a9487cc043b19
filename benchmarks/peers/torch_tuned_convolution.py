"""Convolutions in PyTorch in two layouts, of which the faster counts: NCHW in memory, and channels last."""

import sys

import torch

from benchmarks.peers.torch_convolution import TorchConvolution, main


class TunedTorchConvolution(TorchConvolution):
    """Methods as in ``convolution_protocol.Peer``."""

    layouts = (torch.contiguous_format, torch.channels_last)


if __name__ == "__main__":
    sys.exit(main(TunedTorchConvolution()))
