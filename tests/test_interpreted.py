"""Every kernel once more as plain Python, under ``NUMBA_DISABLE_JIT=1``: for debuggers, tracebacks and coverage.

There the NumPy twins of ``tile.py`` run instead of LLVM's vectors, so this also compares the two meanings of a tile.
"""

import pytest
from subprocesses import passed_and_skipped, succeed

from benchmarks.reliability.every_kernel import SLOW_TESTS, TESTS
from fastconv_kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(INTERPRETED, reason="it starts an interpreter itself")


def test_the_kernels_tests_pass_without_a_compiler():
    """The very tests of the compiled kernels, with few drawn examples."""
    slow = [f"--deselect=tests/{each}" for each in SLOW_TESTS]
    passed, skipped = passed_and_skipped(TESTS, slow, NUMBA_DISABLE_JIT="1")
    assert passed > 4000
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
    import fastconv_kernels
    from benchmarks.reliability import every_kernel

    folder = Path(fastconv_kernels.__file__).parent
    met = {}

    def step(frame, event, argument):
        file = frame.f_code.co_filename
        if not file.startswith(str(folder)):
            return None
        met.setdefault(file, set()).add(frame.f_lineno)
        return step

    sys.settrace(step)
    every_kernel.run()
    sys.settrace(None)

    def functions(tree):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield node

    missing = []
    for file in sorted(folder.glob("*.py")):
        if file.name in ("runtime.py", "cache.py", "tilesize.py", "importing.py", "limits.py", "uninterrupted.py"):
            continue  # no kernels: what runs them, or chooses among them
        tree = ast.parse(file.read_text())
        lowerings = [f for f in functions(tree) if any("compiled_as" in ast.unparse(d) for d in f.decorator_list)]
        skipped = {line for f in lowerings for line in range(f.lineno, f.end_lineno + 1)}
        if file.name in ("tile.py", "crew.py", "precision.py"):  # what only the compiler calls, or an import
            named = ("check_inside", "compiled_as", "register")
            helpers = [f for f in functions(tree) if f.name.startswith("_") or f.name in named]
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
