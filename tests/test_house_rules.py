"""Rules of this code that no tool knows: who may import whom, what a kernel may hold, what its docstring must say."""

import ast
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNELS = sorted((ROOT / "kernels/fastconv_kernels").glob("*.py"))
PACKAGE = sorted((ROOT / "fastconv").rglob("*.py"))
TESTS = sorted((ROOT / "tests").glob("*.py"))
OTHERS = sorted((ROOT / "benchmarks").rglob("*.py"))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=name_of)


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """Yield (module, where) for all imports, where being 'top', 'inside' a function, or for 'typing' alone."""

    def walk(node, where):
        for child in ast.iter_child_nodes(node):
            here = where
            if isinstance(child, ast.FunctionDef):
                here = "inside"
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                here = "typing"
            if isinstance(child, ast.Import):
                yield from ((alias.name, here) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute here"
                if child.module in ("fastconv", "fastconv_kernels"):
                    yield from ((f"{child.module}.{alias.name}", here) for alias in child.names)
                else:
                    yield child.module, here
            yield from walk(child, here)

    return list(walk(parse(path), "top"))


# --------------------------------------------------------------------------------------------- who may import whom

# Each part of fastconv, and the parts that it may import: arrows point one way, down this page.
# docs/adr/0011 has the same table.
EVERYTHING = None
K = "fastconv_kernels"
ARROWS = {
    "reference": set(),
    "lazy": set(),
    "atomic": set(),
    "regular": set(),
    "shapes": set(),
    "schedules": set(),
    "forks": set(),
    "terminal": set(),
    "init": {"shapes"},
    "normalization": {"shapes"},
    "room": {K},
    "blocks": {"room", "shapes", K},
    "layers": {"blocks", "init", "lazy", "room", "shapes", K},
    "footprint": {"layers", "room", "shapes", K},
    "losses": {"blocks", "shapes", K},
    "optim": {"blocks", "layers", K},
    "averaging": {"blocks", "layers", K},
    "functional": {"blocks", "layers", "losses", "shapes", K},
    "gradient_check": {"blocks", "layers"},
    "augment": {"blocks", "shapes", K},
    "plan": {"blocks", "footprint", "layers", "normalization", "room", "shapes", K},
    "sequential": {"blocks", "forks", "layers", "normalization", "plan", "shapes"},
    "layerwise": {"layers", "sequential", "shapes"},
    "summary": {"layers", "layerwise", "sequential", "shapes"},
    "models": {"layers", "lazy", "sequential", "shapes"},
    "data": {"atomic", "lazy", "room"},
    "io": {"atomic", "blocks", "layers", "normalization", "regular", "sequential", "shapes"},
    "plots": {"augment", "layers", "shapes"},
    "training": {
        "atomic", "augment", "averaging", "blocks", "data", "footprint", "io", "layers", "layerwise", "lazy", "losses",
        "models", "normalization", "optim", "plots", "regular", "room", "schedules", "sequential", "shapes", "terminal",
    },
    "ensemble": {"blocks", "sequential", "shapes", "training"},
    "report": {"atomic", "augment", "data", "layers", "plots", "sequential", "training"},
    "checkup": {
        "data", "layers", "layerwise", "losses", "optim", "sequential", "shapes", "summary", "terminal", "training", K,
    },
    "commands": EVERYTHING,
    "cli": EVERYTHING,
    "__main__": EVERYTHING,
}  # fmt: skip
# What closes a circle, or costs too much for every import, is imported inside the function that needs it.
ARROWS_INSIDE_FUNCTIONS = {"sequential": {"augment", "summary", "training"}}

# What plans memory before a step: Ctrl-C in the middle of an import may leave Python's lock of imports held, and every
# other thread that imports waiting.
PLANNING = ["fastconv/footprint.py", "fastconv/room.py", *(f"kernels/{K}/{name}.py" for name in ("limits", "memory"))]


@each([ROOT / name for name in PLANNING])
def test_nothing_is_imported_where_memory_is_planned(path):
    assert not [module for module, where in imports(path) if where == "inside"]


# Other people's packages, and the only parts that may import them.  NumPy is everywhere.
GUESTS = {
    "PIL": {"augment", "data"},
    "pandas": {"data"},
    "safetensors": {"io"},
    "rich": {"commands", "terminal", "training"},
    "matplotlib": {"plots"},
}


def part_of(path):
    return path.relative_to(ROOT / "fastconv").parts[0].removesuffix(".py")


@each(PACKAGE)
def test_imports_within_fastconv_point_one_way(path):
    part = part_of(path)
    if part == "__init__":
        loaded = {module for module, where in imports(path) if module.startswith("fastconv") and where != "typing"}
        assert loaded == {"fastconv.lazy"}
        return
    assert part in ARROWS, f"new part {part!r}: give it a place in this table"
    allowed = ARROWS[part]
    for module, where in imports(path):
        top, _, rest = module.partition(".")
        if where == "typing" or top not in ("fastconv", K):
            continue
        target = K if top == K else rest.split(".")[0]
        inside = ARROWS_INSIDE_FUNCTIONS.get(part, set()) if where == "inside" else set()
        ok = allowed is EVERYTHING or target in allowed | inside | {part, "__version__"}
        assert ok, f"{name_of(path)} must not import {module}"


LAZY = [path for path in PACKAGE if path.name == "__init__.py" and ("fastconv.lazy", "top") in imports(path)]


@each(LAZY)
def test_a_lazy_package_tells_the_type_checker_what_it_tells_python(path):
    package = ".".join(path.parent.relative_to(ROOT).parts)
    values = {ast.unparse(n.targets[0]): n.value for n in parse(path).body if isinstance(n, ast.Assign)}
    told = {(file, name) for file, names in ast.literal_eval(values["_NAMES"]).items() for name in names}
    told |= {(package, name) for name in ast.literal_eval(values.get("_MODULES", ast.Tuple([])))}
    (typed,) = [n for n in parse(path).body if isinstance(n, ast.If)]
    # "import X as X" offers a name; a plain import is for this file's own annotations.
    assert told == {(n.module, alias.name) for n in typed.body for alias in n.names if alias.asname}


@each(LAZY)
def test_a_lazy_package_offers_no_name_that_is_a_file_of_its_own(path):
    """As soon as somebody imports the file, it would stand in place of the name."""
    module = import_module(".".join(path.parent.relative_to(ROOT).parts))
    files = {file.stem for file in path.parent.glob("*.py")}
    assert not {name for name in module.__all__ if name in files and not inspect.ismodule(getattr(module, name))}


def test_the_arrows_have_no_circle():
    done = set()
    for part, allowed in ARROWS.items():
        assert allowed is EVERYTHING or allowed <= done | {K}, part
        done.add(part)


@each(PACKAGE)
def test_other_packages_are_imported_where_they_belong(path):
    for module, where in imports(path):
        top = module.split(".")[0]
        if top in sys.stdlib_module_names or top in ("fastconv", K, "numpy") or where == "typing":
            continue
        assert top in GUESTS, f"{name_of(path)} must not import {module}: numba and llvmlite stay under kernels/"
        assert part_of(path) in GUESTS[top], f"{name_of(path)} must not import {module}"
        if top in ("pandas", "matplotlib"):
            assert where == "inside", "pandas takes 0.2 s to import, and matplotlib may not be there"


@each(KERNELS)
def test_kernels_import_nothing_of_fastconv(path):
    for module, _ in imports(path):
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or top in ("numpy", "numba", "llvmlite", K), module


# What all kernels may use, and what each of these tools may use itself.
TOOLS = {
    "cache": set(),
    "tile": set(),
    "crew": {"tile"},
    "uninterrupted": set(),
    "importing": set(),
    "limits": set(),
    "__init__": {"limits"},
    "runtime": {"cache", "crew", "importing", "limits", "uninterrupted"},
    "tilesize": {"tile"},
    "memory": {"runtime", "tile"},
    "counter": {"runtime"},
    "exponential": {"runtime"},
    "exponential32": {"runtime", "tile"},
    "precision": {"exponential", "exponential32", "runtime", "tile"},
    "trigonometry": {"runtime"},
    "many": {"tile"},
}
# A file of kernels is one operation by one method, and knows no other, but for these.
CONVOLUTIONS = {"conv2d", "depthwise", "pointwise", "winograd", "winograd_filter"}
KERNEL_ARROWS = {
    "channelwise": {"batchnorm", "depthwise"},
    "convolution": CONVOLUTIONS | {"pieces"},
    "depthwise": {"conv2d"},
    "pointwise": {"conv2d"},
    "winograd_filter": {"winograd"},
}


@each(KERNELS)
def test_kernels_import_tools_and_no_other_kernels(path):
    allowed = TOOLS.get(path.stem, set(TOOLS) | KERNEL_ARROWS.get(path.stem, set()))
    for module, _ in imports(path):
        top, _, rest = module.partition(".")
        assert top != K or rest.split(".")[0] in allowed, f"{path.stem} must not import {module}"


@each(PACKAGE)
def test_the_kind_of_convolution_is_chosen_in_one_place(path):
    for module, _ in imports(path):
        assert module.removeprefix(f"{K}.").split(".")[0] not in CONVOLUTIONS or not module.startswith(K), (
            f"{name_of(path)} must not import {module}: {K}.convolution chooses"
        )


@each(sorted((ROOT / "fastconv/reference").glob("*.py")))
def test_the_oracle_imports_numpy_alone(path):
    modules = {module for module, _ in imports(path) if not module.startswith("fastconv.reference.")}
    assert {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) <= {"numpy"}


def test_the_kernels_folder_is_a_source_root_and_no_package():
    assert not (ROOT / "kernels/__init__.py").exists()


# -------------------------------------------------------------------------------------------------- what a kernel is


def kernels_of(path):
    """Yield (function, parallel) for all functions marked @kernel()."""
    for node in ast.walk(parse(path)):
        for decorator in getattr(node, "decorator_list", []):
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "kernel":
                serial = any(k.arg == "parallel" and k.value.value is False for k in decorator.keywords)
                yield node, not serial


ALL_KERNELS = [(path, f, parallel) for path in KERNELS for f, parallel in kernels_of(path)]
each_kernel = pytest.mark.parametrize(
    ("path", "function", "parallel"), ALL_KERNELS, ids=[f"{path.stem}.{f.name}" for path, f, _ in ALL_KERNELS]
)


def test_there_are_kernels_to_look_at():
    assert len(ALL_KERNELS) > 25
    assert sum(parallel for *_, parallel in ALL_KERNELS) > 20


@each_kernel
def test_a_kernel_raises_checks_prints_and_allocates_nothing(path, function, parallel):
    forbidden = (
        ast.Raise,
        ast.Assert,
        ast.Try,
        ast.With,
        ast.Import,
        ast.ImportFrom,
        ast.Global,
        ast.List,
        ast.Dict,
        ast.ListComp,
    )
    allocating = {
        "empty",
        "zeros",
        "ones",
        "full",
        "array",
        "arange",
        "copy",
        "concatenate",
        "stack",
        "dot",
        "empty_like",
    }
    for node in ast.walk(function):
        assert not isinstance(node, forbidden), f"{path.name}:{node.lineno}: {ast.unparse(node)}"
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)), "BLAS fights for the cores"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called != "print"
            assert not (called.startswith("np.") and called[3:] in allocating), f"{path.name}:{node.lineno}: {called}"


@each_kernel
def test_a_kernel_says_what_it_computes_and_why_it_is_free_of_races(path, function, parallel):
    text = ast.get_docstring(function)
    assert text, f"{path.name}: {function.name} has no docstring"
    if parallel:
        assert re.search(r"^Race-free: \w", text, re.MULTILINE), (
            f"{path.name}: {function.name} lacks a line 'Race-free:'"
        )


@each_kernel
def test_prange_is_for_parallel_kernels_and_comes_once(path, function, parallel):
    uses = [n for n in ast.walk(function) if isinstance(n, ast.Call) and ast.unparse(n.func) == "prange"]
    assert len(uses) == (1 if parallel else 0)
    assert ("crew" in [a.arg for a in function.args.args[:1]]) == parallel
    assert all(ast.unparse(use.args[0]) == "crew" for use in uses)


@each_kernel
def test_no_sum_runs_across_tasks(path, function, parallel):
    """What is added to inside a prange was made inside it.

    ``s += ...`` on a name from outside is a reduction, of which each worker would have a part, and ``a[i] += ...`` on
    an argument is a race unless the task is part of the index: a task adds to a view of its own.
    """
    arguments = {argument.arg for argument in function.args.args}
    for loop in (n for n in ast.walk(function) if isinstance(n, ast.For) and "prange" in ast.unparse(n.iter)):
        made = {
            t.id for n in ast.walk(loop) if isinstance(n, ast.Assign) for t in targets(n) if isinstance(t, ast.Name)
        }
        for n in ast.walk(loop):
            if isinstance(n, ast.AugAssign):
                base = n.target.value if isinstance(n.target, ast.Subscript) else n.target
                assert ast.unparse(base) in made - arguments, f"{path.name}:{n.lineno}: {ast.unparse(n)}"


def targets(assignment):
    for target in assignment.targets:
        yield from target.elts if isinstance(target, ast.Tuple) else [target]


@each(KERNELS + PACKAGE + TESTS)
def test_no_fastmath(path):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.keyword) and node.arg == "fastmath":
            assert isinstance(node.value, ast.Constant), f"{name_of(path)}:{node.value.lineno}"
            assert node.value.value is False, f"{name_of(path)}:{node.value.lineno}"
        if isinstance(node, ast.Dict):
            assert "fastmath" not in [getattr(key, "value", None) for key in node.keys]


# ------------------------------------------------------------------------------------------------------ the equations


def equations_derived():
    """Numbers at the ends of lines of docs/backprop.md, in order."""
    return [
        int(n) for n in re.findall(r"\((\d+)\)$", (ROOT / "docs/backprop.md").read_text(encoding="utf-8"), re.MULTILINE)
    ]


def test_every_equation_has_a_number_of_its_own():
    found = equations_derived()
    assert len(found) == len(set(found)) > 30


@each([p for p in KERNELS + PACKAGE if "commands" not in p.parts])
def test_equations_that_are_cited_exist(path):
    cited = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            cited |= {int(n) for n in re.findall(r"(?<![\w.)])\((\d{1,3})\)", text)}
            for low, high in re.findall(r"quations? \((\d+)\) to \((\d+)\)", text):
                cited |= set(range(int(low), int(high) + 1))
    assert cited <= set(equations_derived()), f"{name_of(path)} cites {sorted(cited - set(equations_derived()))}"


OPERATIONS = [
    "activation", "adaptive", "augment", "batchnorm", "bias", "branches", "channelwise", "conv2d", "depthwise",
    "elementwise", "groupnorm", "linear", "loss", "optim", "padding", "pointwise", "pool2d", "resample", "winograd",
    "winograd_filter",
]  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_kernels_cite_their_equations(name):
    text = (ROOT / f"kernels/fastconv_kernels/{name}.py").read_text(encoding="utf-8")
    assert re.search(r"docs/backprop\.md|equations[\w ,]* are those of conv2d\.py", text)
    assert re.search(r"[Ee]quations? \(\d+\)", text)


# ----------------------------------------------------------------------------------------------------- and the rest

# ``verbose=True`` asks fit for its lines; everything else goes through the terminal's own writer.
MAY_PRINT = {"fastconv/cli.py", "fastconv/terminal.py", "fastconv/training/loop.py"}


@each(KERNELS + PACKAGE)
def test_nothing_prints_but_what_is_for_printing(path):
    calls = [n for n in ast.walk(parse(path)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "print"]
    assert not calls or name_of(path) in MAY_PRINT


GENERATORS = {"Generator", "default_rng", "SeedSequence", "PCG64", "Philox", "BitGenerator"}


@each(KERNELS + PACKAGE + OTHERS)
def test_no_global_random_state(path):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
            assert node.attr in GENERATORS, f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}"
    assert "random" not in [module for module, _ in imports(path)]


# What runs a file's content, or writes what others would have to run.
RUNS = {"eval", "exec", "compile", "__import__"}
PICKLERS = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "numba.core.serialize"}
# Not set to False, NumPy's write objects as pickles; its load alone refuses them by itself.
WRITES_OBJECTS = {"np.save", "np.savez", "np.savez_compressed"}


def runs_what_it_reads(tree):
    """Yield what a program does that pickles, unpickles or executes, in a few words each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {f"{getattr(node, 'module', '')}.{alias.name}".lstrip(".") for alias in node.names}
            names |= {name.split(".")[0] for name in names} | {getattr(node, "module", None)}
            yield from sorted(names & PICKLERS)
        elif isinstance(node, ast.Attribute) and "pickle" in node.attr:
            yield node.attr
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            allowed = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            if called.removeprefix("builtins.") in RUNS:
                yield called
            if called in WRITES_OBJECTS and not allowed:
                yield f"{called} without allow_pickle=False"
            if any(not isinstance(value, ast.Constant) or value.value is not False for value in allowed):
                yield "allow_pickle"


@each(KERNELS + PACKAGE)
def test_nothing_is_pickled_or_executed(path):
    """But for the cache of compiled kernels, in a folder that only its user can write: SECURITY.md."""
    found = list(runs_what_it_reads(parse(path)))
    assert found == (["numba.core.serialize"] if name_of(path) == "kernels/fastconv_kernels/cache.py" else [])


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pickle as p", ["pickle"]),
        ("import os, marshal", ["marshal"]),
        ("from pickle import loads", ["pickle"]),
        ("from numba.core import serialize", ["numba.core.serialize"]),
        ("from numba.core.serialize import loads", ["numba.core.serialize"]),
        ("def f(text):\n    return eval(text)", ["eval"]),
        ("builtins.exec(text)", ["builtins.exec"]),
        ("module = __import__(name)", ["__import__"]),
        ("np.load(path, allow_pickle=True)", ["allow_pickle"]),
        ("np.load(path, allow_pickle=trusted)", ["allow_pickle"]),
        ("np.savez(path, x=x)", ["np.savez without allow_pickle=False"]),
        ("pd.read_pickle(path)", ["read_pickle"]),
        ("np.save(path, x, allow_pickle=False)\nmodel.eval()\nre.compile('pickle')", []),
    ],
)
def test_what_would_be_pickled_or_executed_is_seen(code, found):
    assert list(runs_what_it_reads(ast.parse(code))) == found


@each(TESTS)
def test_no_test_measures_speed(path):
    """A test that fails on a busy machine is worth nothing: benchmarks/ is where time is taken."""
    measuring = {"perf_counter", "perf_counter_ns", "process_time", "timeit"}
    used = {n.attr for n in ast.walk(parse(path)) if isinstance(n, ast.Attribute)}
    used |= {n.id for n in ast.walk(parse(path)) if isinstance(n, ast.Name)}
    assert not used & measuring


@each(KERNELS + PACKAGE)
def test_every_file_says_what_it_is(path):
    assert ast.get_docstring(parse(path)), f"{name_of(path)} has no docstring"


@each(KERNELS)
def test_a_kernel_that_stores_past_the_caches_settles(path):
    """Else another thread might read what was there before."""
    for launched in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(launched, ast.FunctionDef) or [ast.unparse(d) for d in launched.decorator_list] != [
            "kernel()"
        ]:
            continue
        calls = [(ast.unparse(call.func), call) for call in ast.walk(launched) if isinstance(call, ast.Call)]
        written = [call for name, call in calls if name in ("write_line", "write_gradient")]
        past = any(ast.unparse(argument) == "True" for call in written for argument in call.args[-2:])
        if past or any(name == "stream" for name, _ in calls):
            last = launched.body[-1]
            assert ast.unparse(last) == "settle()", f"{path.stem}.{launched.name} must end with settle()"
