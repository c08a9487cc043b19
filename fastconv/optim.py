"""Optimisers: how parameters follow their gradients.  The loops are in kernels/fastconv_kernels/optim.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.layers.base import Parameter
from fastconv_kernels import optim as kernels
from fastconv_kernels.many import Many


def _check(operation: str, name: str, value: float, below: float = np.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < below:
        limit = "" if below == np.inf else f" and below {below}"
        raise ValueError(f"{operation}: expected {name} of at least 0{limit}, got {value!r}")
    return float(value)


_Arrays = list[tuple[Parameter, np.ndarray, np.ndarray]]


def _same(these: _Arrays, those: _Arrays) -> bool:
    """Whether the objects are the same: arrays cannot be compared with ==."""
    return len(these) == len(those) and all(
        a is b for this, that in zip(these, those, strict=True) for a, b in zip(this, that, strict=True)
    )


class Optimizer:
    """Base of the optimisers.

    Parameters
    ----------
    lr : float
        Learning rate; a schedule multiplies it.
    weight_decay : float

    Attributes
    ----------
    steps : int
        How many steps were taken.
    """

    slots = 0
    """How many arrays of a parameter's size the optimiser remembers."""

    def __init__(self, lr: float, weight_decay: float) -> None:
        name = type(self).__name__
        self.lr = _check(name, "lr", lr)
        self.weight_decay = _check(name, "weight_decay", weight_decay)
        self.steps = 0
        self._memory: dict[Parameter, tuple[np.ndarray, ...]] = {}
        self._key: _Arrays = []
        self._groups: list[Many] = []

    def step(self, parameters: Sequence[Parameter], factor: float = 1.0) -> None:
        """Move every parameter along its ``grad``.

        Parameters
        ----------
        parameters : sequence of Parameter
        factor : float
            What to multiply the learning rate by in this step.
        """
        self.steps += 1
        key = [(parameter, parameter.value, parameter.grad) for parameter in parameters]
        if not _same(key, self._key):
            self._key, self._groups = key, self._gather(parameters)
        for together in self._groups:
            self.update(together, self.lr * factor)

    def _gather(self, parameters: Sequence[Parameter]) -> list[Many]:
        groups: dict[np.dtype, list[tuple[np.ndarray, ...]]] = {}
        for parameter in parameters:
            memory = self._memory.get(parameter)
            if memory is None or any(array.dtype != parameter.dtype for array in memory):
                memory = tuple(np.zeros(parameter.size, parameter.dtype) for _ in range(self.slots))
                self._memory[parameter] = memory
            groups.setdefault(parameter.dtype, []).append((*memory, parameter.grad, parameter.value))
        return [Many(each) for each in groups.values()]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_key": [], "_groups": []}  # which hold addresses

    def update(self, parameters: Many, lr: float) -> None:
        """Change parameters in place: ``parameters.groups`` are their (*memory, gradient, value), each float[K]."""
        raise TypeError(f"{type(self).__name__} does not say how to move: override update")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.  Equation (24) of docs/backprop.md, PyTorch's form.

    Parameters
    ----------
    lr : float
    momentum : float
        From 0 to below 1.
    nesterov : bool
        Look ahead along the momentum (Sutskever et al. 2013); needs a momentum.
    weight_decay : float
        Added to the gradient, times the weight.

    Raises
    ------
    ValueError
        If a number is outside its range.
    """

    slots = 1

    def __init__(
        self, lr: float = 0.01, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = _check("SGD", "momentum", momentum, below=1)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: expected a momentum above 0 with nesterov=True, got 0")

    def update(self, parameters: Many, lr: float) -> None:
        """Apply equation (24)."""
        kernels.sgd(*parameters.table, lr, self.momentum, self.nesterov, self.weight_decay)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980).  Equation (25) of docs/backprop.md, PyTorch's form.

    Parameters
    ----------
    lr : float
    betas : (float, float)
        How much of the mean gradient, and of its mean square, each step keeps; from 0 to below 1.
    eps : float
    weight_decay : float
        Added to the gradient, times the weight.

    Raises
    ------
    ValueError
        If a number is outside its range.
    """

    slots = 2
    decoupled = False

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        name = type(self).__name__
        self.betas = _check(name, "betas[0]", betas[0], below=1), _check(name, "betas[1]", betas[1], below=1)
        self.eps = _check(name, "eps", eps)

    def update(self, parameters: Many, lr: float) -> None:
        """Apply equation (25), or (26)."""
        first, second = self.betas
        correction1, correction2 = 1 - first**self.steps, (1 - second**self.steps) ** 0.5
        kernels.adam(
            *parameters.table,
            lr,
            first,
            second,
            self.eps,
            self.weight_decay,
            self.decoupled,
            correction1,
            correction2,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101).  Equation (26).

    Parameters are those of ``Adam``; ``weight_decay``, times the rate, shrinks the weight itself.
    """

    decoupled = True

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay)


def by_name(name: str, lr: float | None = None) -> Optimizer:
    """Return the optimiser of that name, with the defaults of ``fastconv train``: SGD gets Nesterov momentum 0.9.

    They were found on held-out digits, with LeNet-5, batches of 64, 20 epochs and the one-cycle schedule.

    Raises
    ------
    ValueError
        With the names there are.
    """
    if name == "sgd":
        return SGD(0.04 if lr is None else lr, momentum=0.9, nesterov=True, weight_decay=1e-3)
    if name == "adam":
        return Adam(2e-3 if lr is None else lr)
    if name == "adamw":
        return AdamW(2e-3 if lr is None else lr, weight_decay=0.1)
    raise ValueError(f"optimizer: expected one of {', '.join(NAMES)}, got {name!r}")


NAMES = ("sgd", "adam", "adamw")
