"""The convolutions of ``benchmarks.convolutions`` as plain data.  Imports no library under comparison."""

from typing import NamedTuple

import numpy as np

DIRECTIONS = ("forward", "gradient to the input", "gradient to the filters")


class Shape(NamedTuple):
    """A square convolution, padded by half its taps, so that at stride 1 images keep their size, unless it says not."""

    channels: int
    filters: int
    taps: int
    size: int
    stride: int = 1
    groups: int = 1
    batch: int = 128
    padded: bool = True

    @property
    def padding(self) -> int:
        """Rows and columns of zeros on each side."""
        return self.taps // 2 if self.padded else 0

    @property
    def out(self) -> int:
        """Height and width of the output."""
        return (self.size + 2 * self.padding - self.taps) // self.stride + 1

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """Shape of the filters."""
        return self.filters, self.channels // self.groups, self.taps, self.taps

    @property
    def flops(self) -> int:
        """Additions and multiplications of each direction, those with padding's zeros too."""
        return 2 * self.batch * self.out**2 * int(np.prod(self.weight))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return images, filters, bias and the output's gradient: normal numbers, always the same."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, self.channels, self.size, self.size), np.float32)
        k = rng.standard_normal(self.weight, np.float32)
        b = rng.standard_normal(self.filters, np.float32)
        return x, k, b, rng.standard_normal((self.batch, self.filters, self.out, self.out), np.float32)

    def __str__(self) -> str:
        what = f"depthwise {self.filters}" if self.groups > 1 else f"{self.channels} to {self.filters}"
        stride = f" stride {self.stride}" if self.stride > 1 else ""
        padding = "" if self.padded else " unpadded"
        return f"{what}, {self.taps}x{self.taps}{stride}{padding}, at {self.size}"


ALL = (
    Shape(1, 6, 5, 28),  # LeNet-5
    Shape(6, 16, 5, 14, padded=False),
    Shape(1, 32, 3, 28),  # the 3x3 net on digits
    Shape(32, 32, 3, 28),
    Shape(64, 64, 3, 14),
    Shape(3, 16, 3, 32),  # small residual nets
    Shape(16, 16, 3, 32),
    Shape(16, 32, 3, 32, stride=2),
    Shape(16, 32, 1, 32, stride=2),
    Shape(32, 32, 3, 16),
    Shape(64, 64, 3, 8),
    Shape(3, 64, 7, 224, stride=2, batch=16),  # large residual nets
    Shape(64, 64, 3, 56, batch=16),
    Shape(128, 128, 3, 28, batch=16),
    Shape(256, 256, 3, 14, batch=16),
    Shape(512, 512, 3, 7, batch=16),
    Shape(32, 32, 3, 56, groups=32, batch=64),  # depthwise separable nets
    Shape(64, 64, 3, 56, stride=2, groups=64, batch=64),
    Shape(32, 64, 1, 56, batch=64),
    Shape(128, 128, 1, 28, batch=64),
)
