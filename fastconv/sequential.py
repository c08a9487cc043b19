"""A chain of layers: the model."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from fastconv import blocks, forks, shapes
from fastconv.blocks import Blocks
from fastconv.layers import Dropout, Layer, Softmax, Workspace
from fastconv.layers.base import Changes, Parameter, is_ours
from fastconv.layers.fusion import plan_chain
from fastconv.layers.softmax import write_softmax
from fastconv.normalization import Normalization
from fastconv.plan import Plan
from fastconv.shapes import Shape, ShapeError

if TYPE_CHECKING:
    from os import PathLike

    from fastconv.augment import Augment, Packing
    from fastconv.averaging import EMA
    from fastconv.losses import Loss
    from fastconv.optim import Optimizer
    from fastconv.schedules import Schedule
    from fastconv.training.callbacks import Callback
    from fastconv.training.checkpoint import Checkpoint
    from fastconv.training.history import History

_KEPT_PLANS = 6  # training, its ragged last batch, evaluation, its ragged last batch, and two to spare
_NOT_COPIED = ("_plans", "_parts", "_seen", "_running", "lock")


class Sequential(Layer):
    """Layers one after another.

    Parameters
    ----------
    *layers : Layer
        May be Sequential themselves.  A layer object may stand in one place only.
    seed : int
        What the initial weights are drawn from, each from the seed and its own place.  Weights that were read or set
        before stay as they are.

    Attributes
    ----------
    layers : tuple of Layer
    normalization : Normalization
        How uint8 images become floats, in the first kernel.  Float images are taken as they are.
    lock : threading.RLock
        Held while a batch runs, so that Python threads may share a model.

    Raises
    ------
    TypeError
        If something is not a layer, or some layers were converted to another dtype than others.
    ValueError
        If a layer, or a parameter, stands in two places.
    """

    def __init__(self, *layers: Layer, seed: int = 0) -> None:
        shapes.seed("Sequential", seed)
        for number, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential: expected layers, got {type(layer).__name__} at position {number}")
        self.layers = layers
        self.normalization = Normalization()
        self._start()
        met: dict[int, str] = {}
        for name, layer in self._leaves():
            if id(layer) in met:
                raise ValueError(f"Sequential: layers {met[id(layer)]} and {name} are the same {type(layer).__name__}")
            met[id(layer)] = name
            _check_children(layer)
        places: dict[int, str] = {}
        for name, parameter in self.named_parameters():
            if id(parameter) in places:
                raise ValueError(
                    f"Sequential: parameters {places[id(parameter)]} and {name} are the same, of which each would "
                    "overwrite the other's gradient; give every layer its own"
                )
            places[id(parameter)] = name
        self._take_over_dtype()
        self._name_and_seed(seed, Parameter.seed)

    def _look_for_changes(self) -> None:
        """Drop the plans if they were made for other layers, parameters or arrays of gradients than there are now."""
        if self._seen == Changes.count:
            return
        parts: list[object] = [*self.modules()]
        for parameter in self.parameters():
            parts += parameter, parameter.grad
        if len(parts) != len(self._parts) or any(new is not old for new, old in zip(parts, self._parts, strict=True)):
            self._take_over_dtype()
            self._plans.clear()
            self._parts, self._running = parts, None
        self._seen = Changes.count

    def _take_over_dtype(self) -> None:
        """Be of the dtype that the layers were converted to, if they were."""
        found = {parameter.dtype: name for name, parameter in self.named_parameters()}
        if len(found) > 1:
            given = " and ".join(f"{name} of {dtype}" for dtype, name in found.items())
            raise TypeError(f"Sequential: expected parameters of one dtype, got {given}; convert layers alike, by to()")
        for dtype in found:
            for module in self.modules():
                module.dtype = dtype

    def _start(self) -> None:
        self._plans: OrderedDict[Shape, Plan] = OrderedDict()
        self._parts: list[object] = []
        self._seen = -1
        self._running: Plan | None = None
        self.lock: threading.RLock | forks.HalfTrained = threading.RLock()
        forks.tell(self)

    def after_fork(self) -> None:
        """Forget, in a forked child, what a thread was doing that does not exist here."""
        if isinstance(self.lock, forks.HalfTrained):
            return
        if self.lock.acquire(blocking=False):
            self.lock.release()
            return
        was_training = self._running is not None
        self._start()
        if was_training:
            self.lock = forks.HalfTrained()

    def _name_and_seed(self, seed: int, draw: Callable[..., None]) -> None:
        for name, parameter in self.named_parameters():
            parameter.name = name
            place = [int(part) if part.isdecimal() else sum(part.encode()) for part in name.split(".")]
            draw(parameter, seed, *place)

    def initialize(self, seed: int) -> None:
        """Draw all weights anew from ``seed``, as the constructor does; raises ValueError if it is below 0."""
        shapes.seed("Sequential.initialize", seed)
        self._name_and_seed(seed, Parameter.redraw)

    def reseed_dropout(self, seed: int) -> None:
        """Start every Dropout's masks anew, each from ``seed`` and its own place."""
        for number, (_, layer) in enumerate(self._leaves()):
            if isinstance(layer, Dropout):
                layer.reseed(seed, number)

    def dropouts(self) -> list[Dropout]:
        """Return every Dropout, wherever it is, in order."""
        return [layer for layer in self.modules() if isinstance(layer, Dropout)]

    def _leaves(self) -> list[tuple[str, Layer]]:
        """Return (name, layer) for every layer inside this one that holds no others."""
        return [(name, layer) for name, layer in self.named_modules() if name and not layer.children()]

    # ------------------------------------------------------------------------------------------------- structure

    def children(self) -> tuple[Layer, ...]:
        """Return the layers."""
        return self.layers

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, key: int) -> Layer: ...
    @overload
    def __getitem__(self, key: slice) -> "Sequential": ...
    def __getitem__(self, key: int | slice) -> "Layer | Sequential":
        """Return a layer, or a model of some of them that shares their parameters."""
        if not isinstance(key, slice):
            return self.layers[key]
        part = Sequential.__new__(Sequential)
        names = [(parameter, parameter.name) for parameter in self.parameters()]
        for parameter, _ in names:
            _ = parameter.value  # draws it now, from this model's seed and place, not from the slice's
        part.__init__(*self.layers[key])
        for parameter, name in names:
            parameter.name = name
        part.normalization, part.dtype = self.normalization, self.dtype
        return part

    def last_layer(self) -> Layer | None:
        """Return the layer whose output is the model's, also inside a Sequential at the end; None if there is none."""
        last = self.layers[-1] if self.layers else None
        return last.last_layer() if isinstance(last, Sequential) else last

    def __repr__(self) -> str:
        lines = [f"  ({number}): {layer!r}".replace("\n", "\n  ") for number, layer in enumerate(self.layers)]
        return "\n".join(["Sequential(", *lines, ")"]) if lines else "Sequential()"

    def summary(self, input_shape: Shape) -> str:
        """Return a table of layers, output shapes, parameters and arithmetic for one image.

        Parameters
        ----------
        input_shape : (C, H, W) or (features,)
            Without the batch axis.
        """
        from fastconv.summary import summary

        return summary(self, input_shape)

    # ------------------------------------------------------------------------------------ as a layer of a model

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Plan every layer into ``work.steps``; layers/fusion.py says what becomes part of a neighbour's step."""
        return plan_chain(self.layers, shape, work)

    def fuses_sum(self) -> bool:
        """Whether the last layer does."""
        return bool(self.layers) and is_ours(self.layers[-1]) and self.layers[-1].fuses_sum()

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Run the steps in order."""
        if work.adds:
            work.steps[-1][1].addend = work.addend
        for layer, inner in work.steps if training else work.evaluation:
            x = inner.cleared(layer.forward_blocks(x, inner, training), inner.left)
        return x

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Run the steps backwards; the first computes its input's gradient only if asked to."""
        gradient: Blocks | None = dy
        for number in range(len(work.steps) - 1, -1, -1):
            layer, inner = work.steps[number]
            asked = _asked_for(gradient, number + 1)
            gradient = inner.cleared(layer.backward_blocks(asked, inner, need_dx or number > 0), inner.came)
        work.sum_shares()
        return gradient

    # -------------------------------------------------------------------------------------------------------- batches

    def run_batch(
        self,
        x: np.ndarray,
        index: np.ndarray | None = None,
        training: bool = False,
        pack: Callable[[np.ndarray, np.ndarray, Blocks, np.ndarray | None], Blocks] = blocks.pack_pixels,
    ) -> Blocks:
        """Pack the images ``x[index]`` (all if None) and run them forward; the result lasts until the next run.

        This is ``forward`` without its checks and copies, for loops that call it thousands of times.  The caller holds
        ``lock``.

        Parameters
        ----------
        x : uint8 or this model's dtype, (N, C, H, W), (N, C, L) or (N, features), contiguous
        index : int64[n], in range
        training : bool
        pack : function with the arguments of ``blocks.pack_pixels``
            What packs uint8 images, such as a ``fastconv.augment.Packing``.
        """
        self._running = None
        plan = self._packed_plan(x, index, training, pack)
        self._running = plan if training else None
        try:
            return self.forward_blocks(plan.x, plan.work, training)
        except BaseException:
            self._running = None  # half a batch has no gradient
            raise

    def packed(
        self,
        x: np.ndarray,
        index: np.ndarray | None = None,
        pack: Callable[[np.ndarray, np.ndarray, Blocks, np.ndarray | None], Blocks] = blocks.pack_pixels,
    ) -> np.ndarray:
        """Return the images ``x[index]`` as the first layer gets them; the arguments are those of ``run_batch``."""
        with self.lock:
            self._running = None
            return blocks.unpack(self._packed_plan(x, index, False, pack).x)

    def _packed_plan(
        self,
        x: np.ndarray,
        index: np.ndarray | None,
        training: bool,
        pack: Callable[[np.ndarray, np.ndarray, Blocks, np.ndarray | None], Blocks],
    ) -> Plan:
        n = x.shape[0] if index is None else index.shape[0]
        plan = self._plan_for((n, *x.shape[1:]), training)
        if x.dtype == np.uint8:
            pack(x, plan.table(self.normalization), plan.x, index)
        else:
            blocks.pack(x, plan.x, index)
        return plan

    def backward_batch(self, dy: Blocks, need_dx: bool = False) -> Blocks | None:
        """Run the last training batch backwards, from lane blocks of the output's gradient."""
        return self.backward_blocks(dy, self._trained().work, need_dx)

    def _trained(self) -> Plan:
        """Return the plan of the last batch; raises RuntimeError if that was none of training."""
        self._look_for_changes()
        if self._running is None:
            raise RuntimeError("Sequential.backward: no saved input; call forward(x, training=True) first")
        return self._running

    def is_planned(self, shape: Shape) -> bool:
        """Whether the memory for a batch of this shape is there."""
        return shape in self._plans

    def _plan_for(self, shape: Shape, training: bool) -> Plan:
        self._look_for_changes()
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._plans[shape] = Plan(self, shape, training)
            if len(self._plans) > _KEPT_PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(shape)
        return plan

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output's shape for an input's, both with the batch axis; at once for a batch that has run."""
        self._look_for_changes()
        plan = self._plans.get(shape)
        return super().output_shape(shape) if plan is None else plan.output_shape

    def to(self, dtype: np.typing.DTypeLike) -> "Sequential":
        """Convert the model to float32 or float64; returns itself."""
        super().to(dtype)
        self._plans.clear()
        self._running = None
        return self

    def check_images(self, operation: str, x: object) -> np.ndarray:
        """Return ``x`` as ``run_batch`` takes it: contiguous, uint8 or the model's dtype, of two to four axes.

        Raises
        ------
        ShapeError, TypeError
            If it is not a batch of images or features, or holds whole numbers other than uint8, which may be pixels.
        ValueError
            If a float is NaN or infinite; the message says where.
        """
        given = blocks.as_array(operation, "x", x)
        if given.dtype.kind in "iu" and given.dtype != np.uint8 and given.size:
            raise TypeError(
                f"{operation}: expected x of uint8, which are pixels to normalise, or of floats, got {given.dtype}: "
                "take x.astype(np.uint8) of pixels, x.astype(np.float32) of other numbers"
            )
        array = self._as_batch(operation, given)
        if array.dtype != np.uint8 and not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"{operation}: x{list(where)} is {array[where]}; expected finite numbers")
        return array

    def _as_batch(self, operation: str, x: object) -> np.ndarray:
        """Do the part of ``check_images`` that looks at no value."""
        array = blocks.as_array(operation, "x", x)
        if array.dtype == np.uint8:
            return blocks.check_batch(operation, blocks.contiguous(operation, "x", array))
        return blocks.check_batch(operation, blocks.as_float(operation, "x", array, self.dtype))

    # ---------------------------------------------------------------------------------------- on ordinary arrays

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Run a batch through all layers.

        Parameters
        ----------
        x : (N, C, H, W), (N, C, L) or (N, features)
            uint8 images are normalised by ``normalization``; floats are taken as they are.
        training : bool
            Keep what ``backward`` needs, and let dropout drop.

        Returns
        -------
        float[N, ...]
            A new array.

        Raises
        ------
        ShapeError, TypeError
            If the first layer cannot take such an array; a ShapeError names the layer.
        """
        x = self._as_batch("Sequential", x)
        with self.lock:
            if x.shape[0] == 0:
                self._running = None
                return np.empty(self.output_shape(x.shape), self.dtype)
            return blocks.unpack(self.run_batch(x, None, training))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the gradient of the last training batch's input; parameters and errors as of ``Layer.backward``.

        For uint8 images it is the gradient with respect to the normalised pixels.
        """
        with self.lock:
            shape = self._trained().output_shape
            dy = blocks.as_float("Sequential", "dy", dy, self.dtype)
            if dy.shape != shape:
                raise ShapeError(f"Sequential.backward: expected dy of the output's shape {shape}, got {dy.shape}")
            dx = self.backward_batch(blocks.pack(dy, blocks.empty(shape, self.dtype)), need_dx=True)
            return blocks.unpack(_asked_for(dx, 0))

    __call__ = forward

    def _outputs(
        self, operation: str, x: object, batch_size: int, probabilities: bool, view: "Packing | None" = None
    ) -> np.ndarray:
        array = self.check_images(operation, x)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"{operation}: expected batch_size of at least 1, got {batch_size!r}")
        with self.lock:
            shape = self.output_shape(array.shape)
            if shape[1] < 2:
                raise ValueError(
                    f"{operation}: expected at least two outputs, one a class, got {shape[1]}: take forward(x), and "
                    "what the loss makes of it, such as functional.sigmoid"
                )
            out = np.empty(shape, self.dtype)
            add_softmax = probabilities and not isinstance(self.last_layer(), Softmax)
            for start in range(0, array.shape[0], batch_size):
                stop = min(start + batch_size, array.shape[0])
                if view is None:
                    y = self.run_batch(array[start:stop])
                else:
                    y = self.run_batch(array, np.arange(start, stop), pack=view)
                if add_softmax:
                    p = blocks.empty(y.shape, self.dtype)
                    write_softmax(y, p)
                    y = p
                out[start:stop] = blocks.unpack(y)
        return out

    def predict_proba(
        self, x: np.ndarray, batch_size: int = 256, tta: int = 1, augment: "Augment | str | None" = None, seed: int = 0
    ) -> np.ndarray:
        """Return each image's probabilities, float[N, classes]: a softmax unless the model ends in one.

        Parameters
        ----------
        x : uint8 or float, (N, C, H, W), (N, C, L) or (N, features)
        batch_size : int
            Affects memory and speed alone: an image's result does not depend on its batch.
        tta : int
            Test-time augmentation: the mean probabilities of so many views, which are the image itself and ``tta - 1``
            augmented ones.  Views are of uint8 images (N, C, H, W).
        augment : Augment or 'digits', 'fashion', 'cifar'
            What views undergo; a preset's name means its milder form in ``fastconv.augment.VIEWS``.
        seed : int
            What view k shows of image x[n] is a pure function of (seed, k, n).

        Raises
        ------
        ShapeError, TypeError, ValueError
            If x, or an argument, does not fit.
        NoRoomError
            If there is not enough memory for a batch, or for x in the model's dtype.
        """
        packings = self._views("predict_proba", x, tta, augment, seed)
        with self.lock:
            p = self._outputs("predict_proba", x, batch_size, probabilities=True)
            if not packings:
                return p
            total = p.astype(np.float64)
            for view in packings:
                total += self._outputs("predict_proba", x, batch_size, probabilities=True, view=view)
            return (total / tta).astype(self.dtype)

    def _views(
        self, operation: str, x: np.ndarray, tta: int, augment: "Augment | str | None", seed: int
    ) -> "list[Packing]":
        if tta == 1 and augment is None:  # without loading what augments
            return []
        from fastconv.augment import views

        return views(operation, x, tta, augment, seed)

    def predict(
        self, x: np.ndarray, batch_size: int = 256, tta: int = 1, augment: "Augment | str | None" = None, seed: int = 0
    ) -> np.ndarray:
        """Return the most probable class of each image, int64[N]; the first of equal ones.

        Arguments and errors are those of ``predict_proba``.
        """
        if self._views("predict", x, tta, augment, seed):
            return self.predict_proba(x, batch_size, tta, augment, seed).argmax(axis=1)
        return self._outputs("predict", x, batch_size, probabilities=False).argmax(axis=1)

    def evaluate(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int = 256,
        tta: int = 1,
        augment: "Augment | str | None" = None,
        seed: int = 0,
    ) -> dict[str, float]:
        """Return {"loss": mean cross-entropy, "accuracy": fraction right} on labelled images.

        Parameters
        ----------
        x : uint8 or float, (N, C, H, W), (N, C, L) or (N, features)
        y : int[N]
            Labels from 0 to classes - 1.
        batch_size, tta, augment, seed
            As in ``predict_proba``.

        Raises
        ------
        ValueError
            If there are no images, or a label is out of range.
        ShapeError, TypeError, NoRoomError
            As of ``predict_proba``.
        """
        from fastconv.training.evaluation import evaluate, of_probabilities

        if self._views("evaluate", x, tta, augment, seed):
            return of_probabilities(self.predict_proba(x, batch_size, tta, augment, seed), y)
        return evaluate(self, x, y, batch_size)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        epochs: int = 10,
        batch_size: int = 64,
        loss: "Loss | None" = None,
        optimizer: "Optimizer | str" = "sgd",
        schedule: "Schedule | str" = "one-cycle",
        validation_split: float = 0.0,
        validation_data: tuple[np.ndarray, np.ndarray] | None = None,
        seed: int = 0,
        ema: "EMA | None" = None,
        callbacks: "Sequence[Callback]" = (),
        verbose: bool = True,
        augment: "Augment | str | None" = None,
        stratify: bool = False,
        split_seed: int | None = None,
        checkpoint: "Checkpoint | str | PathLike[str] | None" = None,
        resume: bool = False,
    ) -> "History":
        """Train on labelled images; see ``fastconv.training.fit``."""
        from fastconv.training.loop import fit

        return fit(
            self,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            loss=loss,
            optimizer=optimizer,
            schedule=schedule,
            validation_split=validation_split,
            validation_data=validation_data,
            seed=seed,
            ema=ema,
            callbacks=callbacks,
            verbose=verbose,
            augment=augment,
            stratify=stratify,
            split_seed=split_seed,
            checkpoint=checkpoint,
            resume=resume,
        )

    def config(self) -> dict[str, Any]:
        """Return nothing: a Sequential is described by its layers."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # Copies, and processes that a model is sent to, need no lock and no buffers of ours.
        return {name: value for name, value in self.__dict__.items() if name not in _NOT_COPIED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()


def _asked_for(gradient: Blocks | None, number: int) -> Blocks:
    """Return the gradient that layer ``number`` gave its input."""
    if gradient is None:
        raise TypeError(f"layer {number} returned None although its input's gradient was asked for")
    return gradient


def _check_children(layer: Layer) -> None:
    """Raise TypeError if a layer holds another that it does not name: nobody would train or save it."""
    for name, value in vars(layer).items():
        if isinstance(value, Layer) and not any(value is child for child in layer.children()):
            raise TypeError(
                f"Sequential: expected {type(layer).__name__}.children() to return all layers inside, got none of its "
                f"{name}; override children"
            )
