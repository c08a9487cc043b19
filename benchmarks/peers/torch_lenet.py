"""LeNet-5 in PyTorch, for ``benchmarks.step``: eager.  Imports no fastconv, so it may run in another environment."""

import sys
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from benchmarks.peers import protocol


class TorchLeNet:
    """The same work as fastconv's; arguments and methods as in ``protocol.Peer``."""

    library = f"torch {torch.__version__}"

    def __init__(self, images: np.ndarray, labels: np.ndarray, weights: Mapping[str, np.ndarray]) -> None:
        self.model = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        )
        self.model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self.loss = nn.CrossEntropyLoss()
        # One pass over each parameter: the fastest of the three that PyTorch has, or as fast.
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=protocol.LR, momentum=protocol.MOMENTUM, fused=True
        )
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)
        self.threads = torch.get_num_threads()

    def _normalized(self, index: torch.Tensor) -> torch.Tensor:
        return self.images[index].float().sub_(255 * protocol.MEAN).div_(255 * protocol.STD)

    def index(self, numbers: np.ndarray) -> torch.Tensor:
        """Return the numbers as a tensor."""
        return torch.from_numpy(numbers)

    def train(self, index: torch.Tensor) -> float:
        """Choose and normalise, forward, loss, backward, momentum step."""
        x = self._normalized(index)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model(x), self.labels[index])
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self, index: torch.Tensor) -> torch.Tensor:
        """Choose and normalise, forward."""
        with torch.inference_mode():
            return self.model(self._normalized(index))


if __name__ == "__main__":
    sys.exit(protocol.main(TorchLeNet))
