"""What every layer is: four methods on lane blocks, and the parameters they share.

A layer of your own is the same four: ``plan`` checks a shape and prepares memory, ``forward_blocks`` and
``backward_blocks`` compute, ``own_parameters`` names what is learned.  It then works wherever a built-in one does.
"""

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

import numpy as np

from fastconv import blocks, init, room
from fastconv.blocks import Blocks
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels import limits, memory
from fastconv_kernels.bias import sum_shares
from fastconv_kernels.many import Many
from fastconv_kernels.pieces import Spread


class Changes:
    """How often a layer got other layers or parameters, or a parameter other arrays: what plans were made for."""

    count = 0


class Parameter:
    """A learned array and its gradient.

    The initial value is drawn when it is first read.  Until then the model that holds the layer may give it another
    seed, so that two equal layers in one model do not start equal.

    Parameters
    ----------
    shape : tuple of int
    initializer : function of (numpy.random.Generator, shape)
    dtype : float32 or float64
    decays : bool, optional
        Whether an optimiser with ``decay="weights"`` lets it decay; if None, it does if it has two axes or more, which
        biases have not.

    Attributes
    ----------
    value, grad : float[shape]
        ``grad`` is overwritten, not added to, by each backward pass.  Assigning to either copies into its memory.
    name : str
        Its place in the model, such as '0.weight'; empty before it has one.

    Raises
    ------
    NoRoomError
        If there is no memory for the gradient, or, when it is first read, for the value.
    ShapeError, TypeError
        If what is assigned to value or gradient has another shape, or does not hold real numbers.
    """

    def __init__(
        self,
        shape: Shape,
        initializer: init.Initializer,
        dtype: np.typing.DTypeLike = np.float32,
        decays: bool | None = None,
    ) -> None:
        self.shape = shape
        self.decays = len(shape) > 1 if decays is None else decays
        self.name = ""
        self.dtype = np.dtype(dtype)
        self.entropy: tuple[int, ...] = (0,)
        self._initializer = initializer
        self._value: np.ndarray | None = None
        try:
            self._grad = np.zeros(shape, dtype)
        except MemoryError:
            needs = {f"the gradient of a parameter of shape {shape}": float(self.size * self.dtype.itemsize)}
            raise room.NoRoomError(
                room.refusal("Parameter", needs, "take a smaller layer", limits.free_memory())
            ) from None

    @property
    def value(self) -> np.ndarray:
        """The array itself; assigning copies into it."""
        if self._value is None:
            room.check(
                f"parameter {self.name or 'unnamed'}",
                {f"values of shape {self.shape}, drawn in float64": float(self.size * (8 + self.dtype.itemsize))},
                "take a smaller layer",
            )
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.entropy)))
            self._value = np.ascontiguousarray(self._initializer(rng, self.shape), self.dtype)
        return self._value

    @value.setter
    def value(self, new: np.ndarray) -> None:
        if self._value is None:
            self._value = np.empty(self.shape, self.dtype)
        self._value[...] = self._fitting("value", new)

    @property
    def grad(self) -> np.ndarray:
        """The gradient; assigning copies into it."""
        return self._grad

    @grad.setter
    def grad(self, new: np.ndarray) -> None:
        self._grad[...] = self._fitting("grad", new)

    def _fitting(self, what: str, new: np.ndarray) -> np.ndarray:
        array = blocks.as_float(f"parameter {self.name or 'unnamed'}", what, new, self.dtype)
        if array.shape != self.shape:
            raise ShapeError(
                f"parameter {self.name or 'unnamed'}: expected {what} of shape {self.shape}, got {array.shape}"
            )
        return array

    @property
    def is_drawn(self) -> bool:
        """Whether the value was read or set before."""
        return self._value is not None

    @property
    def size(self) -> int:
        """The number of values."""
        return prod(self.shape)

    def seed(self, *entropy: int) -> None:
        """Draw from this seed if the value was not read or set yet."""
        if self._value is None:
            self.entropy = entropy

    def redraw(self, *entropy: int) -> None:
        """Forget the value and draw it anew from this seed."""
        self.entropy = entropy
        if self._value is not None:
            old, self._value = self._value, None
            try:
                old[...] = self.value
            finally:  # others know this array by its address
                self._value = old

    def to(self, dtype: np.typing.DTypeLike) -> None:
        """Convert value and gradient."""
        Changes.count += 1
        self._value = self.value.astype(dtype)
        self.dtype = self._value.dtype
        self._grad = self._grad.astype(dtype)

    def __repr__(self) -> str:
        return f"Parameter({self.name or 'unnamed'}, shape={self.shape}, dtype={self.dtype})"


class Workspace:
    """The memory of one layer for one batch shape; a layer puts into it what it likes.

    Attributes
    ----------
    dtype : numpy.dtype
    relu : bool
        Whether the layer is to apply a following ReLU itself, on the register tile, and its gradient.
    adds : bool
        Whether the layer is to add ``addend`` to its output, before that ReLU, and to leave its gradient in ``dy``.
    addend : Blocks or None
        Of the output's shape; given before each forward pass.
    gates : Workspace or None
        That of the layer before, if it applies a ReLU whose gradient, and the bias's, this layer is to compute.
    gated : bool
        Whether the layer behind does so.
    may_stay : bool
        Whether the layer may leave few images in pieces (kernels/fastconv_kernels/pieces.py).
    came, left : Spread or None
        How the images lie that come in pieces, and, if ``plan`` says so, those that are left so; None for one a lane.
    is_anothers : bool
        Whether the layer is not one of fastconv's own.
    """

    relu: bool = False
    adds: bool = False
    addend: Blocks | None = None
    gates: "Workspace | None" = None
    gated: bool = False
    may_stay: bool = False
    came: Spread | None = None
    left: Spread | None = None
    is_anothers: bool = False

    def __init__(self, dtype: np.typing.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._shares: list[tuple[np.ndarray, Parameter]] = []
        self._sums: Many | None = None
        self._outermost = True

    def within(self, layer: "Layer") -> "Workspace":
        """Return a workspace for a layer inside this one, which leaves the sum of its shares to this one.

        Unless the layer is somebody else's: such a one may change its gradients when ours has written them, so they
        must be whole by then.
        """
        new = Workspace(self.dtype)
        if not is_ours(layer):
            new.is_anothers = True
            return new
        new._shares, new._outermost = self._shares, False
        return new

    def shares(self, parameter: Parameter, blocks: int) -> np.ndarray:
        """Return uninitialised memory, (blocks, *shape), for each lane block's share of the parameter's gradient.

        ``backward_blocks`` writes it, and calls ``sum_shares`` when it is done.
        """
        shares = memory.empty((blocks, *parameter.shape), self.dtype)
        self._shares.append((shares, parameter))
        return shares

    def sum_shares(self) -> None:
        """Write the shares' sums, in block order, into the parameters' gradients; the outermost does so for all."""
        if not self._outermost:
            return
        if self._sums is None and self._shares:
            self._sums = Many([(shares, parameter.grad) for shares, parameter in self._shares])
        if self._sums is not None:
            sum_shares(*self._sums.table, len(self._shares[0][0]))

    def empty(self, shape: Shape, spread: Spread | None = None) -> Blocks:
        """Return uninitialised lane blocks for a batch of this outside shape, in such pieces if any."""
        return (
            blocks.empty(shape, self.dtype) if spread is None else Blocks(spread.empty(shape[1], self.dtype), shape[0])
        )

    @overload
    def cleared(self, x: Blocks, spread: Spread | None) -> Blocks: ...
    @overload
    def cleared(self, x: Blocks | None, spread: Spread | None) -> Blocks | None: ...
    def cleared(self, x: Blocks | None, spread: Spread | None) -> Blocks | None:
        """Return what the layer gave, with zeros in the lanes that hold no image if it is somebody else's.

        Such a one may have made infinities of the zeros there, by a logarithm or a division.  The gradient's zeros make
        NaN of them, which a sum over all lanes would carry into the weights.  Pieces of images are left alone.
        """
        if self.is_anothers and x is not None and spread is None:
            x.clear_empty_lanes()
        return x

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sums": None}  # which holds addresses

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the workspace has no {name!r}: plan() did not prepare it")

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None: ...


def is_ours(thing: object) -> bool:
    """Whether its class is fastconv's: one of somebody else's may do more behind what it inherits."""
    return type(thing).__module__.startswith("fastconv.")


class Layer:
    """Base of all layers.

    A subclass says what its constructor takes with ``config``, and overrides ``plan``, ``forward_blocks``,
    ``backward_blocks`` and, if it learns anything, ``own_parameters``.
    """

    fuses_relu: ClassVar[bool] = False
    """Whether the layer respects ``work.relu``."""

    knows_pieces: ClassVar[bool] = False
    """Whether ``takes_pieces`` may say yes."""

    dtype: np.dtype = np.dtype(np.float32)

    if not TYPE_CHECKING:

        def __setattr__(self, name, value):
            if isinstance(value, _PARTS) or isinstance(self.__dict__.get(name), _PARTS):
                Changes.count += 1
            object.__setattr__(self, name, value)

    """What the layer computes in."""

    # -------------------------------------------------------------------------------------------- the four methods

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape, prepare memory in ``work``, and return the output's shape.

        Parameters
        ----------
        shape : (N, C, H, W), (N, C, L) or (N, features)
        work : Workspace

        Raises
        ------
        ShapeError
            If the layer cannot take such an input; the message has the numbers.
        """
        raise TypeError(f"{type(self).__name__} does not say how to plan: override plan(shape, work)")

    def fuses_sum(self) -> bool:
        """Whether the layer respects ``work.adds``, and ``work.relu`` behind it."""
        return False

    def takes_pieces(self, shape: Shape, came: Spread) -> bool:
        """Whether images of this shape may come in these pieces, ``work.came``."""
        return False

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Return the output; while ``training``, keep in ``work`` what ``backward_blocks`` needs.

        The output's memory belongs to ``work`` and lasts until the next forward pass.  What a layer of your own leaves
        in the lanes that hold no image, those from ``x.n`` on, is cleared.
        """
        raise TypeError(f"{type(self).__name__} does not say how to compute: override forward_blocks")

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write the parameters' gradients and return the input's, or None if ``need_dx`` is false.

        ``dy`` is zero in the lanes that hold no image, and may be overwritten.  A sum over images takes the first
        ``dy.n`` alone: in the other lanes there may be an infinity, by x = 0 or of the layer's own making, and 0 times
        that is NaN.  What a layer of your own returns there is cleared.
        """
        raise TypeError(f"{type(self).__name__} does not say how to differentiate: override backward_blocks")

    def own_parameters(self) -> dict[str, Parameter]:
        """Return what is learned, by name, in the order of PyTorch's state_dict."""
        return {}

    def own_buffers(self) -> dict[str, np.ndarray]:
        """Return what is remembered but not learned, such as running statistics, by name; changed in place only."""
        return {}

    # -------------------------------------------------------------------------------- what follows from the four

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {}

    def children(self) -> tuple["Layer", ...]:
        """Return the layers inside this one, in order."""
        return ()

    def named_modules(self, name: str = "") -> Iterator[tuple[str, "Layer"]]:
        """Yield (name, layer) for this layer, named '', and those inside it, outer ones first: '0', '1', '1.0' ..."""
        yield name, self
        for number, child in enumerate(self.children()):
            yield from child.named_modules(f"{name}.{number}" if name else str(number))

    def modules(self) -> Iterator["Layer"]:
        """Yield this layer and all inside it, in the order of ``named_modules``."""
        return (layer for _, layer in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield (name, parameter) for this layer and those inside it: '0.weight', '0.bias', '2.1.weight' ..."""
        for name, parameter in self.own_parameters().items():
            yield prefix + name, parameter
        for number, child in enumerate(self.children()):
            yield from child.named_parameters(f"{prefix}{number}.")

    def parameters(self) -> list[Parameter]:
        """Return all parameters in the order of ``named_parameters``."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_state(self, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
        """Yield (name, array) for every parameter's value and every buffer, a layer's parameters first."""
        for name, parameter in self.own_parameters().items():
            yield prefix + name, parameter.value
        for name, array in self.own_buffers().items():
            yield prefix + name, array
        for number, child in enumerate(self.children()):
            yield from child.named_state(f"{prefix}{number}.")

    def to(self, dtype: np.typing.DTypeLike) -> Self:
        """Convert the layer, and those inside it, to float32 or float64; returns itself."""
        new = np.dtype(dtype)
        if new not in blocks.FLOATS:
            raise TypeError(f"{type(self).__name__}.to: expected float32 or float64, got {new}")
        self.dtype = new
        for parameter in self.own_parameters().values():
            parameter.to(new)
        for child in self.children():
            child.to(new)
        self._last = None
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return a copy of every parameter's value and every buffer, named as ``torch.nn.Sequential`` would."""
        return {name: array.copy() for name, array in self.named_state()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Set every parameter and buffer; changes nothing unless all names and shapes fit.

        Raises
        ------
        ValueError
            If a name is missing or unknown.
        ShapeError
            If a shape differs.
        """
        mine = dict(self.named_state())
        missing, unknown = sorted(set(mine) - set(state)), sorted(set(state) - set(mine))
        if missing or unknown:
            raise ValueError(f"load_state_dict: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
        new = {name: blocks.as_float("load_state_dict", name, state[name], np.float64) for name in mine}
        for name, array in mine.items():
            if new[name].shape != array.shape:
                raise ShapeError(f"load_state_dict: expected {name} of shape {array.shape}, got {new[name].shape}")
        for name, array in mine.items():
            array[...] = new[name]

    # ------------------------------------------------------------------------------------------ on ordinary arrays

    _last: tuple[Shape, Workspace, Blocks] | None = None

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output's shape for an input's, both with the batch axis.

        Raises
        ------
        ShapeError
            If the layer cannot take such an input.
        NoRoomError
            If there is no memory for one image.
        """
        with memory.counted() as asked:
            try:
                # One image is enough to ask, and costs no memory.
                out = self.plan((1, *shape[1:]), Workspace(self.dtype))
            except ShapeError:
                self.plan(shape, Workspace(self.dtype))  # says it with the shape that came
                raise
            except MemoryError:
                needs = {f"a part of what one image of shape {shape[1:]} takes": float(sum(asked))}
                remedy, free = "take smaller images, or a smaller model", limits.free_memory()
                raise room.NoRoomError(room.refusal(type(self).__name__, needs, remedy, free)) from None
        return (shape[0], *out[1:])

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Apply the layer to a batch.

        Parameters
        ----------
        x : (N, C, H, W), (N, C, L) or (N, features)
            Converted to the layer's dtype.
        training : bool
            Keep what ``backward`` needs, and let dropout drop.

        Returns
        -------
        numpy.ndarray
            A new array in the layer's dtype.

        Raises
        ------
        ShapeError, TypeError
            If the layer cannot take such an array.
        NoRoomError
            If there is no memory for a layer's initial weights.
        """
        name = type(self).__name__
        x = blocks.check_batch(name, blocks.as_float(name, "x", x, self.dtype))
        if x.shape[0] == 0:
            self._last = None
            return np.empty(self.output_shape(x.shape), self.dtype)
        work = Workspace(self.dtype)
        shape = self.plan(x.shape, work)
        y = self.forward_blocks(blocks.pack(x, work.empty(x.shape)), work, training)
        self._last = (shape, work, work.empty(shape)) if training else None
        return blocks.unpack(y)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the gradient of the input of the last ``forward(x, training=True)``; set the parameters' ``grad``.

        Parameters
        ----------
        dy : array of the output's shape
            The gradient of the loss with respect to the output.

        Raises
        ------
        RuntimeError
            If no such forward pass came before.
        ShapeError
            If ``dy`` does not have the output's shape.
        TypeError
            If ``dy`` does not hold real numbers, or a layer of your own returns no gradient.
        """
        name = type(self).__name__
        if self._last is None:
            raise RuntimeError(f"{name}.backward: no saved input; call forward(x, training=True) first")
        shape, work, buffer = self._last
        dy = blocks.as_float(name, "dy", dy, self.dtype)
        if dy.shape != shape:
            raise ShapeError(f"{name}.backward: expected dy of the output's shape {shape}, got {dy.shape}")
        dx = self.backward_blocks(blocks.pack(dy, buffer), work, need_dx=True)
        if dx is None:
            raise TypeError(f"{name}.backward_blocks returned None although the input's gradient was asked for")
        return blocks.unpack(dx)

    __call__ = forward

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.config().items())
        return f"{type(self).__name__}({arguments})"


_PARTS = (Parameter, Layer, tuple)
"""What layers are made of: tuples are of layers, such as a model's."""
