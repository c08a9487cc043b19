"""Layers made of branches: Residual, Parallel and Concat.  Their loops are in kernels/fastconv_kernels/branches.py."""

from typing import Any

from fastconv.blocks import Blocks, pixels, planes
from fastconv.layers.base import Layer, Workspace, is_ours
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels import branches as kernels


class Branches(Layer):
    """What all have in common: every branch gets the input, and the input's gradient is the sum of theirs."""

    branches: tuple[Layer | None, ...]
    """None is a branch that does nothing."""

    def _fuses(self) -> bool:
        """Whether the first branch is to add the second to its output."""
        return False

    def _check(self, branches: tuple[Layer | None, ...], may_do_nothing: tuple[int, ...] = ()) -> None:
        for number, branch in enumerate(branches):
            if not isinstance(branch, Layer) and not (branch is None and number in may_do_nothing):
                name = type(self).__name__
                raise TypeError(f"{name}: expected layers, got {type(branch).__name__} as branch {number}")
        self.branches = branches

    def children(self) -> tuple[Layer, ...]:
        """Return the branches that are layers."""
        return tuple(branch for branch in self.branches if branch is not None)

    def _plan_branches(self, shape: Shape, work: Workspace) -> list[Shape]:
        work.inner, work.fused = [], self._fuses()
        outputs: list[Shape] = []
        for number, branch in enumerate(self.branches):
            if branch is None:
                outputs.append(shape)
                work.inner.append(None)
                continue
            inside = work.within(branch)
            if work.fused and number == 0:
                inside.adds, inside.relu = True, work.relu
            try:
                outputs.append(branch.plan(shape, inside))
            except ShapeError as error:
                raise ShapeError(f"branch {number}: {error}") from None
            work.inner.append(inside)
        return outputs

    def _run(self, number: int, x: Blocks, work: Workspace, training: bool) -> Blocks:
        branch = self.branches[number]
        if branch is None:
            return x
        inside = work.inner[number]
        return inside.cleared(branch.forward_blocks(x, inside, training), inside.left)

    def _run_branches(self, x: Blocks, work: Workspace, training: bool) -> list[Blocks]:
        return [self._run(number, x, work, training) for number in range(len(self.branches))]

    def _backward(self, work: Workspace, gradients: list[Blocks], need_dx: bool) -> Blocks | None:
        """Run every branch backwards on its own gradient, and return the sum of their inputs' in their order."""
        total: Blocks | None = None
        for number, (branch, inside, dy) in enumerate(zip(self.branches, work.inner, gradients, strict=True)):
            dx = dy if branch is None else inside.cleared(branch.backward_blocks(dy, inside, need_dx), inside.came)
            if not need_dx:
                continue
            if dx is None:
                raise TypeError(f"branch {number} returned None although its input's gradient was asked for")
            if total is not None:
                kernels.add(pixels(total), pixels(dx), pixels(total), False)
            total = dx if total is None else total
        work.sum_shares()
        return total

    def __repr__(self) -> str:
        lines = [f"  {branch!r}".replace("\n", "\n  ") for branch in self.branches if branch is not None]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


class _Sum(Branches):
    """Branches whose outputs are added.

    Of two, the first adds the second if its last layer knows how to: there is no pass over the outputs then, and since
    that layer applies the ReLU and keeps its gradient, none over ``dy``.
    """

    fuses_relu = True

    def _fuses(self) -> bool:
        first = self.branches[0]
        return len(self.branches) == 2 and first is not None and is_ours(first) and first.fuses_sum()

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Plan every branch; their outputs must have one shape."""
        outputs = self._plan_branches(shape, work)
        for number, out in enumerate(outputs):
            if out != outputs[0]:
                raise ShapeError(
                    f"{type(self).__name__}: expected branches with outputs of one shape, got {outputs[0]} from "
                    f"branch 0 and {out} from branch {number}"
                )
        if not work.fused:
            work.y = work.empty(outputs[0])
            work.copies = [work.empty(outputs[0]) for _ in self.branches[1:]]
        return outputs[0]

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (32), through ReLU if one follows."""
        if work.fused:
            work.inner[0].addend = self._run(1, x, work, training)
            return self._run(0, x, work, training)
        total, *others = self._run_branches(x, work, training)
        for number, other in enumerate(others):
            last = number == len(others) - 1
            kernels.add(pixels(total), pixels(other), pixels(work.y), work.relu and last)
            total = work.y
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return the sum of the branches' gradients, in their order."""
        if work.fused:
            return self._backward(work, [dy, dy], need_dx)
        for number, copy in enumerate(work.copies):  # since a branch may overwrite what it is given
            kernels.copy_gated(pixels(dy), pixels(work.y), work.relu and number == 0, pixels(copy))
        return self._backward(work, [*work.copies, dy], need_dx)


class Residual(_Sum):
    """Add what a body makes of the input to what a shortcut makes of it (He et al. 2016, arXiv:1512.03385).

    Equation (32) of docs/backprop.md.  A ReLU behind it is applied as the sum is written.

    Parameters
    ----------
    body : Layer
    shortcut : Layer or None
        None passes the input on as it is.

    Raises
    ------
    TypeError
        If one is not a layer.
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        self.body, self.shortcut = body, shortcut
        self._check((body, shortcut), may_do_nothing=(1,))

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"body": self.body, "shortcut": self.shortcut}


class Parallel(_Sum):
    """Add the outputs of several branches, which all get the same input.  Equation (32) of docs/backprop.md.

    Parameters
    ----------
    *branches : Layer
        At least two; their outputs have one shape.

    Raises
    ------
    TypeError
        If there are fewer, or one is not a layer.
    """

    def __init__(self, *branches: Layer) -> None:
        _at_least_two(self, branches)
        self._check(branches)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments; the star says that they are positional."""
        return {"*branches": self.branches}


class Concat(Branches):
    """Put the outputs of several branches, which all get the same input, side by side along channels.

    Equation (33) of docs/backprop.md.

    Parameters
    ----------
    *branches : Layer
        At least two; their outputs differ in the number of channels, or features, only.

    Raises
    ------
    TypeError
        If there are fewer, or one is not a layer.
    """

    def __init__(self, *branches: Layer) -> None:
        _at_least_two(self, branches)
        self._check(branches)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments; the star says that they are positional."""
        return {"*branches": self.branches}

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Plan every branch; their outputs must have one height and width."""
        outputs = self._plan_branches(shape, work)
        for number, out in enumerate(outputs):
            if out[2:] != outputs[0][2:]:
                raise ShapeError(
                    f"Concat: expected branches with outputs of one height and width, got {outputs[0]} from branch 0 "
                    f"and {out} from branch {number}"
                )
        channels = sum(out[1] for out in outputs)
        whole = (shape[0], channels, *outputs[0][2:])
        work.y = work.empty(whole)
        work.parts = [work.empty(out) for out in outputs]
        return whole

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (33)."""
        start = 0
        for out in self._run_branches(x, work, training):
            channels = out.array.shape[1]
            kernels.copy_channels(planes(out.array), 0, planes(work.y.array), start, channels)
            start += channels
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return the sum of the branches' gradients, in their order."""
        start = 0
        for part in work.parts:
            channels = part.array.shape[1]
            kernels.copy_channels(planes(dy.array), start, planes(part.array), 0, channels)
            start += channels
        return self._backward(work, work.parts, need_dx)


def _at_least_two(layer: Layer, branches: tuple[Layer, ...]) -> None:
    if len(branches) < 2:
        raise TypeError(f"{type(layer).__name__}: expected at least two branches, got {len(branches)}")
