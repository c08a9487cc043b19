"""Every kernel once more as plain Python, under ``NUMBA_DISABLE_JIT=1``: for debuggers, tracebacks and coverage.

There the NumPy twins of ``tile.py`` run instead of LLVM's vectors, so this also compares the two meanings of a tile.
"""

import os
import re
import subprocess
import sys

import pytest
from subprocesses import ROOT, succeed

from fastconv_kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(INTERPRETED, reason="it starts an interpreter itself")

FILES = [
    "conv2d",
    "conv_transpose2d",
    "conv1d",
    "padding",
    "convolution",
    "memory",
    "pool2d",
    "linear",
    "activation",
    "elementwise",
    "adaptive",
    "resize",
    "loss",
    "optim",
    "averaging",
    "lanes",
    "augment",
    "groupnorm",
    "bias",
    "guard_cells",
    "exactness",
]


def test_the_kernels_tests_pass_without_a_compiler():
    """The very tests of the compiled kernels, with few drawn examples."""
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in FILES]
    # Under coverage (.ci/run), this is where the loops of kernels are met.
    measured = ["-m", "coverage", "run"] if "COVERAGE_RUN" in os.environ else []
    done = subprocess.run(
        [sys.executable, *measured, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *files],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    passed, skipped = (int((re.search(rf"(\d+) {word}", done.stdout) or [0, 0])[1]) for word in ("passed", "skipped"))
    assert passed > 1500
    assert skipped < 5


def test_a_kernel_can_be_stepped_through():
    """A tracer, which is what a debugger is, meets the lines of a kernel and sees its variables."""
    code = """
    import sys
    import numpy as np
    from fastconv import functional as F

    lines, accumulators = [], []

    def step(frame, event, argument):
        if frame.f_code.co_name == "conv2d_forward":
            if event == "line":
                lines.append(frame.f_lineno - frame.f_code.co_firstlineno)
                accumulators.append(frame.f_locals.get("acc"))
            return step

    sys.settrace(step)
    y = F.conv2d(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)), np.ones(1))
    sys.settrace(None)
    seen = [float(acc[0, 0, 0]) for acc in accumulators if acc is not None]
    assert y.tolist() == [[[[9, 13], [21, 25]]]], y
    assert 1.0 in seen and 9.0 in seen, "the bias, and the first sum"
    print(len(set(lines)), len(lines))
    """
    distinct, steps = map(int, succeed(code, NUMBA_DISABLE_JIT="1").split())
    assert distinct > 20
    assert steps > 100


def test_small_shapes_meet_every_line_of_every_kernel_and_twin():
    """What coverage would say, for the functions that are compiled otherwise."""
    code = """
    import ast, sys
    from pathlib import Path
    import numpy as np
    import fastconv as fc
    import fastconv_kernels
    from fastconv import blocks, functional as F, losses
    from fastconv_kernels import convolution, pieces
    from fastconv_kernels.exponential import exp, log

    folder = Path(fastconv_kernels.__file__).parent
    met = {}

    def step(frame, event, argument):
        file = frame.f_code.co_filename
        if not file.startswith(str(folder)):
            return None
        met.setdefault(file, set()).add(frame.f_lineno)
        return step

    rng = np.random.default_rng(0)
    model = fc.Sequential(
        fc.Conv2d(2, 3, 3, stride=2, padding=1), fc.ReLU(), fc.MaxPool2d(2, 1),
        fc.Conv2d(3, 2, 1, padding=1), fc.ReLU(), fc.AvgPool2d(2), fc.Dropout(0.5),
        fc.AvgPool2d(1, count_include_pad=False), fc.Flatten(), fc.Linear(8, 4), fc.ReLU(), fc.ReLU(), fc.Linear(4, 3),
    )
    pixels, labels = rng.integers(0, 256, (17, 2, 8, 8)).astype(np.uint8), rng.integers(0, 3, 17)
    special = fc.Sequential(
        fc.Conv2d(2, 22, 3, padding=1), fc.Conv2d(22, 22, 3, padding=1), fc.ReLU(),  # Winograd's, of odd size
        fc.Conv2d(22, 22, 3, padding=1, groups=22), fc.ReLU(), fc.Conv2d(22, 3, 1), fc.ReLU(),
        fc.Flatten(), fc.Linear(189, 3),
    )
    sys.settrace(step)
    for n in (1, 9):  # cut into pieces, and not
        odd = rng.integers(0, 256, (n, 2, 7, 9)).astype(np.uint8)
        fc.train_step(special, fc.CrossEntropyLoss(), fc.SGD(0.1), odd, labels[:n])
    geometry = convolution.Geometry((20, 20, 3, 3), (9, 9), (7, 7), (1, 1), (0, 0), (1, 1), 1, np.dtype(float))
    one, kernel, dy = np.ones((1, 20, 9, 9, 16)), np.ones((20, 20, 3, 3)), np.ones((1, 20, 7, 7, 16))
    convolution.backward_input(geometry, 1)(dy, kernel, one)
    convolution.backward_filter(geometry, 1)(dy, one, kernel[None])
    forward = convolution.forward(geometry, 1)
    forward(one, kernel, np.ones(20), dy, False)
    convolution.backward(geometry, 1, forward)(dy, one, kernel, kernel[None], one)
    convolution.backward_input(geometry)(dy, kernel, one, np.ones(20), True)
    cut = pieces.Spread(1, 4, 4, (8, 8), (2, 2))
    cut.pooled((2, 2), (4, 4)), cut.pooled((3, 3), (2, 2))
    around = fc.Sequential(fc.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), fc.Flatten(), fc.Linear(126, 3))
    fc.train_step(around, fc.CrossEntropyLoss(), fc.SGD(0.1), odd, labels[:9])
    around.backward_batch(losses.CrossEntropyLoss().of_blocks(around.run_batch(odd, None, True), labels[:9]).dy, True)
    F.pad(odd, (1, 0, -1, 2)), F.pad(odd, (1, 0, -1, 2), "circular"), F.pad(odd, (1, 0, -1, 2), "replicate")
    for optimizer in (fc.SGD(0.1, 0.9, True), fc.Adam(clip_norm=1.0), fc.RMSprop(centered=True), fc.Lion()):
        fc.train_step(model, fc.CrossEntropyLoss(0.1), optimizer, pixels, labels)
    fc.train_step(fc.Sequential(fc.Softmax()), fc.MSELoss(), fc.SGD(), np.ones((2, 3)), np.zeros((2, 3)))
    model.backward_batch(losses.MSELoss().of_blocks(model.run_batch(pixels, None, True), np.zeros((17, 3))).dy, True)
    branched = fc.Sequential(
        fc.Conv2d(2, 3, 1), fc.BatchNorm2d(3), fc.ReLU(), fc.Residual(fc.Conv2d(3, 3, 1)), fc.ReLU(),
        fc.GroupNorm(1, 3), fc.Concat(fc.ReLU(), fc.MaxPool2d(1)), fc.Flatten(), fc.Linear(384, 3),
    )
    fc.train_step(branched, fc.CrossEntropyLoss(), fc.SGD(0.1), pixels, labels)
    branched(pixels)
    losses.CrossEntropyLoss()(np.ones((2, 3)), np.eye(2, 3, 1))
    for loss in (losses.L1Loss(), losses.HuberLoss(), losses.BCEWithLogitsLoss()):
        loss(np.full((2, 3), 5.0), np.zeros((2, 3)))
        loss(np.full((2, 3), 0.5), np.zeros((2, 3)))
    ema = fc.EMA()
    ema.begin(model)
    ema.update()
    softmax = fc.Softmax()
    softmax.backward(softmax.forward(np.ones((2, 3)), training=True))
    F.log_softmax(np.ones((2, 3)))
    curves = [fc.LeakyReLU(), fc.ELU(), fc.Sigmoid(), fc.SiLU(), fc.GELU(), fc.GELU("tanh"), fc.Tanh(), fc.Hardswish()]
    sizes = [fc.AdaptiveAvgPool2d(2), fc.AdaptiveMaxPool2d(2), fc.Upsample(4, mode="bilinear"), fc.ZeroPad2d(1)]
    for layer in [*curves, *sizes, fc.PReLU(), fc.LogSoftmax(), fc.Dropout2d()]:
        layer.backward(layer.forward(rng.standard_normal((17, 2, 3, 3)), training=True))
    for layer in curves:
        layer.to(float).forward(np.ones((1, 1)))
    everything = {"elastic": (4, 2), "crop": 1, "padding_mode": "reflect", "flip": True, "cutout": 2, "contrast": 1}
    for turn, options in ((180, everything), (180, {"mixup": 1.0})):
        fc.augment.Augment(rotate=turn, **options).apply(pixels[..., :3], np.arange(17), 1)
    for x in (-1e3, 1e3, 1.0, np.inf, 0.0):
        exp(x), log(abs(x))
    sys.settrace(None)

    def functions(tree):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield node

    missing = []
    for file in sorted(folder.glob("*.py")):
        if file.name in ("runtime.py", "cache.py", "tilesize.py"):
            continue
        tree = ast.parse(file.read_text())
        lowerings = [f for f in functions(tree) if any("compiled_as" in ast.unparse(d) for d in f.decorator_list)]
        skipped = {line for f in lowerings for line in range(f.lineno, f.end_lineno + 1)}
        if file.name in ("tile.py", "crew.py", "precision.py"):  # what only the compiler calls, or an import
            helpers = [f for f in functions(tree) if f.name.startswith("_") or f.name in ("compiled_as", "register")]
            skipped |= {line for f in helpers for line in range(f.lineno, f.end_lineno + 1)}
        for f in functions(tree):
            for statement in ast.walk(f):
                is_code = isinstance(statement, ast.stmt) and not isinstance(statement, ast.FunctionDef | ast.Continue)
                is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                if is_code and not is_text and statement.lineno not in skipped | met.get(str(file), set()):
                    missing.append(f"{file.name}:{statement.lineno}: {ast.unparse(statement).splitlines()[0]}")
    print(*missing, sep="\\n")
    """
    assert succeed(code, NUMBA_DISABLE_JIT="1") == ""
