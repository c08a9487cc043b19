"""From nothing to the end of LeNet-5's first training step, in fastconv."""

import numpy as np

import fastconv as fc

model, loss, optimizer = fc.models.lenet5(), fc.CrossEntropyLoss(), fc.SGD(lr=0.01, momentum=0.9)
rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (64, 1, 28, 28), np.uint8), rng.integers(0, 10, 64)
fc.train_step(model, loss, optimizer, x, y)
