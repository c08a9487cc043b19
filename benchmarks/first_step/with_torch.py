"""From nothing to the end of LeNet-5's first training step, in PyTorch, eager."""

import numpy as np
import torch
from torch import nn

model = nn.Sequential(
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
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (64, 1, 28, 28), np.uint8), rng.integers(0, 10, 64)
loss = nn.functional.cross_entropy(model(torch.from_numpy(x).float().div_(255)), torch.from_numpy(y))
loss.backward()
optimizer.step()
loss.item()
