"""Optimisers: how parameters follow their gradients.  The loops are in kernels/fastconv_kernels/optim.py."""

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from numbers import Real
from typing import Any, Literal

import numpy as np

from fastconv import blocks
from fastconv.layers.base import Layer, Parameter
from fastconv_kernels import optim as kernels
from fastconv_kernels.many import Many


def _check(operation: str, name: str, value: float, below: float = np.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < below:
        limit = "" if below == np.inf else f" and below {below}"
        raise ValueError(f"{operation}: expected {name} of at least 0{limit}, got {value!r}")
    return float(value)


def _check_betas(operation: str, betas: object) -> tuple[float, float]:
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"{operation}: expected betas as two numbers, got {betas!r}")
    first, second = betas
    return _check(operation, "betas[0]", first, below=1), _check(operation, "betas[1]", second, below=1)


Decay = Literal["all", "weights"]
_Arrays = list[tuple[Parameter, np.ndarray, np.ndarray]]


def _same(these: _Arrays, those: _Arrays) -> bool:
    """Whether the objects are the same: arrays cannot be compared with ==."""
    return len(these) == len(those) and all(
        a is b for this, that in zip(these, those, strict=True) for a, b in zip(this, that, strict=True)
    )


class Together(Many):
    """Parameters of one dtype that have taken as many steps, in one launch.

    Attributes
    ----------
    parameters : tuple of Parameter
    steps : int
        How many they have taken.
    """

    def __init__(
        self,
        groups: Sequence[tuple[np.ndarray, ...]],
        decays: Sequence[bool],
        parameters: Sequence[Parameter] = (),
        steps: int = 0,
    ) -> None:
        super().__init__(groups, [float(each) for each in decays])
        self.parameters, self.steps = tuple(parameters), steps


class Optimizer:
    """Base of the optimisers.

    Parameters
    ----------
    lr : float
        Learning rate; a schedule multiplies it.
    weight_decay : float
    decay : 'all' or 'weights'
        What decays: all parameters, as in PyTorch, or those of two axes and more, which leaves out biases and the
        scales and shifts of normalisation.
    clip_norm : float or None
        The largest norm that all gradients together may have: beyond it, a step takes them scaled down.  Equation (80)
        of docs/backprop.md, PyTorch's ``clip_grad_norm_``.

    Attributes
    ----------
    steps : int
        How many steps were taken.  How many each parameter took is counted apart, as in PyTorch: a model that comes
        later, or weights that were not moved for a while, begin where they were.
    norm : float
        With ``clip_norm``, the gradients' norm in the last step, before they were scaled; else 0.
    """

    slots = 0
    """How many arrays of a parameter's size the optimiser remembers."""

    def __init__(self, lr: float, weight_decay: float, *, decay: Decay = "all", clip_norm: float | None = None) -> None:
        name = type(self).__name__
        self.lr = _check(name, "lr", lr)
        self.weight_decay = _check(name, "weight_decay", weight_decay)
        if decay not in ("all", "weights"):
            raise ValueError(f"{name}: expected decay 'all' or 'weights', got {decay!r}")
        self.decay = decay
        if clip_norm is not None and not _check(name, "clip_norm", clip_norm):
            raise ValueError(f"{name}: expected clip_norm above 0, or None, got {clip_norm!r}")
        self.clip_norm = clip_norm
        self.steps = 0
        self._norm = 0.0
        self._memory: dict[Parameter, tuple[np.ndarray, ...]] = {}
        self._taken: dict[Parameter, int] = {}
        self._key: _Arrays = []
        self._groups: list[Together] = []

    @property
    def norm(self) -> float:
        """The norm of all gradients in the last step if there is a ``clip_norm``; else 0."""
        return self._norm

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them; a subclass adds its own."""
        return {
            "lr": float(self.lr),
            "weight_decay": self.weight_decay,
            "decay": self.decay,
            "clip_norm": self.clip_norm,
        }

    @property
    def stride(self) -> float:
        """How many times longer than later ones the next step is, because the optimiser remembers little; mostly 1."""
        return 1.0

    def step(self, parameters: Sequence[Parameter], factor: float = 1.0) -> None:
        """Move every parameter along its ``grad``.

        With ``clip_norm``, nothing moves if the gradients' ``norm`` is not finite.

        Parameters
        ----------
        parameters : sequence of Parameter
        factor : float
            What to multiply the learning rate by in this step.
        """
        key = [(parameter, parameter.value, parameter.grad) for parameter in parameters]
        if not _same(key, self._key):
            self._count()
            self._key, self._groups = key, self._gather(parameters)
        scale = 1.0
        if self.clip_norm is not None:
            self._norm = _norm(self._groups)
            if not isfinite(self._norm):
                return
            scale = min(1.0, self.clip_norm / (self._norm + 1e-6))
        self.steps += 1
        for together in self._groups:
            together.steps += 1
            self.update(together, self.lr * factor, scale)

    def _count(self) -> None:
        """Take down how many steps the parameters of the last step have taken."""
        for together in self._groups:
            self._taken.update(dict.fromkeys(together.parameters, together.steps))

    def _gather(self, parameters: Sequence[Parameter]) -> list[Together]:
        alike: dict[tuple[np.dtype, int], list[Parameter]] = {}
        for parameter in parameters:
            memory = self._memory.get(parameter)
            if memory is None or any(array.dtype != parameter.dtype for array in memory):
                memory = tuple(np.zeros(parameter.size, parameter.dtype) for _ in range(self.slots))
                self._memory[parameter] = memory
                self._taken[parameter] = 0
            alike.setdefault((parameter.dtype, self._taken[parameter]), []).append(parameter)
        return [self._together(each, taken) for (_, taken), each in alike.items()]

    def _together(self, parameters: Sequence[Parameter], steps: int) -> Together:
        groups = [(*self._memory[each], each.grad, each.value) for each in parameters]
        return Together(groups, [self.decay == "all" or each.decays for each in parameters], parameters, steps)

    def state_dict(self, model: Layer) -> dict[str, np.ndarray]:
        """Return copies of all that the optimiser remembers about a model's parameters, and its number of steps."""
        self._count()
        state = {"steps": np.array(self.steps)}
        for name, parameter in model.named_parameters():
            if self._taken.get(parameter, self.steps) != self.steps:
                state[f"{name}.steps"] = np.array(self._taken[parameter])
            for slot, array in enumerate(self._memory.get(parameter, ())):
                state[f"{name}.{slot}"] = array.copy()
        return state

    def load_state_dict(self, model: Layer, state: Mapping[str, np.ndarray]) -> None:
        """Set what ``state_dict`` returned for a model with the same parameters; the rate and its like stay.

        Raises
        ------
        ValueError
            If it is the memory of other parameters, or of another optimiser.
        """
        memory: dict[Parameter, tuple[np.ndarray, ...]] = {}
        taken: dict[Parameter, int] = {}
        expected = {"steps"}
        for name, parameter in model.named_parameters():
            names = [f"{name}.{slot}" for slot in range(self.slots)]
            expected.update(names, [f"{name}.steps"])
            arrays = tuple(self._remembered(each, state[each], parameter) for each in names if each in state)
            if arrays and {array.shape for array in arrays} != {(parameter.size,)}:
                raise ValueError(
                    f"{type(self).__name__}: expected {parameter.size} numbers about {name}, got "
                    f"{', '.join(str(array.size) for array in arrays)}"
                )
            if len(arrays) == self.slots:  # a parameter that was never moved has no memory
                memory[parameter] = arrays
                taken[parameter] = int(state.get(f"{name}.steps", state.get("steps", 0)))
        if "steps" not in state or set(state) - expected:
            found = ", ".join(sorted(set(state) - expected)) or "no number of steps"
            raise ValueError(f"{type(self).__name__}: expected the memory of such an optimiser, got {found}")
        self.steps, self._memory, self._taken = int(state["steps"]), memory, taken
        self._key, self._groups = [], []

    def _remembered(self, name: str, array: object, parameter: Parameter) -> np.ndarray:
        return np.array(blocks.as_float(type(self).__name__, name, array, parameter.dtype))

    def __getstate__(self) -> dict[str, Any]:
        self._count()
        return self.__dict__ | {"_key": [], "_groups": []}  # which hold addresses

    def update(self, parameters: Together, lr: float, scale: float) -> None:
        """Change parameters in place.

        Parameters
        ----------
        parameters : Together
            ``parameters.groups`` are their (*memory, gradient, value), each float[K], ``parameters.numbers`` says of
            each whether it decays, 1 or 0, and ``parameters.steps`` how many steps they have taken with this one.
        lr : float
        scale : float
            What gradients are to be multiplied by: 1 unless they are clipped.
        """
        raise TypeError(f"{type(self).__name__} does not say how to move: override update")


def _norm(groups: list[Together]) -> float:
    """Return the root of the sum of all gradients' squares, added up in a fixed order."""
    total = 0.0
    for together in groups:
        _, tasks, _ = together.table
        totals = np.empty(len(tasks))
        kernels.squares_of_gradients(*together.table, totals)
        total += sum(totals.tolist())
    return sqrt(total)


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
    decay, clip_norm
        As in ``Optimizer``.

    Raises
    ------
    ValueError
        If a number is outside its range.
    """

    slots = 1

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        decay: Decay = "all",
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, decay=decay, clip_norm=clip_norm)
        self.momentum = _check("SGD", "momentum", momentum, below=1)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: expected a momentum above 0 with nesterov=True, got 0")

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().config() | {"momentum": self.momentum, "nesterov": self.nesterov}

    def update(self, parameters: Together, lr: float, scale: float) -> None:
        """Apply equation (24)."""
        decays = self.weight_decay * parameters.numbers
        kernels.sgd(*parameters.table, lr, self.momentum, self.nesterov, decays, scale)


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
    decay, clip_norm
        As in ``Optimizer``.

    Raises
    ------
    TypeError, ValueError
        If betas are no two numbers, or a number is outside its range.
    """

    slots = 2
    decoupled = False

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        decay: Decay = "all",
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, decay=decay, clip_norm=clip_norm)
        name = type(self).__name__
        self.betas = _check_betas(name, betas)
        self.eps = _check(name, "eps", eps)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().config() | {"betas": self.betas, "eps": self.eps}

    def update(self, parameters: Together, lr: float, scale: float) -> None:
        """Apply equation (25), or (26)."""
        first, second = self.betas
        correction1, correction2 = 1 - first**parameters.steps, (1 - second**parameters.steps) ** 0.5
        kernels.adam(
            *parameters.table,
            lr,
            first,
            second,
            self.eps,
            self.weight_decay * parameters.numbers,
            self.decoupled,
            correction1,
            correction2,
            scale,
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
        *,
        decay: Decay = "all",
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, decay=decay, clip_norm=clip_norm)


class RMSprop(Optimizer):
    """Gradients divided by the root of their mean square (Tieleman & Hinton 2012).  Equation (78), PyTorch's form.

    Parameters
    ----------
    lr : float
    alpha : float
        How much of the mean square each step keeps; from 0 to below 1.
    eps : float
    weight_decay : float
        Added to the gradient, times the weight.
    momentum : float
        From 0 to below 1.
    centered : bool
        Divide by the root of the variance instead.
    decay, clip_norm
        As in ``Optimizer``.

    Raises
    ------
    ValueError
        If a number is outside its range.
    """

    slots = 3

    def __init__(
        self,
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        decay: Decay = "all",
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, decay=decay, clip_norm=clip_norm)
        self.alpha = _check("RMSprop", "alpha", alpha, below=1)
        self.eps = _check("RMSprop", "eps", eps)
        self.momentum = _check("RMSprop", "momentum", momentum, below=1)
        self.centered = bool(centered)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"alpha": self.alpha, "eps": self.eps, "momentum": self.momentum, "centered": self.centered}
        return super().config() | own

    @property
    def stride(self) -> float:
        """Ten times at first, with alpha 0.99: a mean square that begins at 0 is too small, by 1 - alpha^t."""
        return (1 - self.alpha ** (self.steps + 1)) ** -0.5

    def update(self, parameters: Together, lr: float, scale: float) -> None:
        """Apply equation (78)."""
        decays = self.weight_decay * parameters.numbers
        kernels.rmsprop(*parameters.table, lr, self.alpha, self.eps, self.momentum, self.centered, decays, scale)


class Lion(Optimizer):
    """The sign of a mean gradient (Chen et al. 2023, arXiv:2302.06675).  Equation (79) of docs/backprop.md.

    Every weight moves by the whole rate, so that the rate is to be some five times smaller than Adam's, and the decay
    as many times larger.

    Parameters
    ----------
    lr : float
    betas : (float, float)
        The mean's share in the direction, and what each step keeps of it; from 0 to below 1.
    weight_decay : float
        Times the rate, shrinks the weight itself.
    decay, clip_norm
        As in ``Optimizer``.

    Raises
    ------
    TypeError, ValueError
        If betas are no two numbers, or a number is outside its range.
    """

    slots = 1

    def __init__(
        self,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        decay: Decay = "all",
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, decay=decay, clip_norm=clip_norm)
        self.betas = _check_betas("Lion", betas)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().config() | {"betas": self.betas}

    def update(self, parameters: Together, lr: float, scale: float) -> None:
        """Apply equation (79)."""
        kernels.lion(*parameters.table, lr, *self.betas, self.weight_decay * parameters.numbers, scale)


def by_name(
    name: str,
    lr: float | None = None,
    weight_decay: float | None = None,
    decay: Decay = "all",
    clip_norm: float | None = None,
) -> Optimizer:
    """Return the optimiser of that name, with the defaults of ``fastconv train``: SGD gets Nesterov momentum 0.9.

    They were found on held-out digits, with LeNet-5, batches of 64 and the one-cycle schedule: 20 epochs for the first
    three, 10 for RMSprop and Lion.

    Raises
    ------
    ValueError
        With the names there are.
    """
    if name not in _BY_NAME:
        raise ValueError(f"optimizer: expected one of {', '.join(NAMES)}, got {name!r}")
    make, defaults = _BY_NAME[name]
    given = {"lr": lr, "weight_decay": weight_decay}
    options = defaults | {key: value for key, value in given.items() if value is not None}
    return make(**options, decay=decay, clip_norm=clip_norm)


_BY_NAME: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "sgd": (SGD, {"lr": 0.04, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    "adam": (Adam, {"lr": 2e-3}),
    "adamw": (AdamW, {"lr": 2e-3, "weight_decay": 0.1}),
    "rmsprop": (RMSprop, {"lr": 2e-3}),
    "lion": (Lion, {"lr": 1e-3, "weight_decay": 0.2}),
}
NAMES = tuple(_BY_NAME)
