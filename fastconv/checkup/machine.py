"""Checks of the machine: versions, threads, vector instructions, the kernel cache, variables; pools.py has one more."""

import importlib.metadata
import os
import platform
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fastconv import __version__, terminal
from fastconv.checkup import pools
from fastconv.checkup.findings import Finding
from fastconv_kernels import cache, limits, runtime
from fastconv_kernels.tilesize import instruction_set

_PACKAGES = ("numpy", "numba", "llvmlite", "pandas", "safetensors")
_LEAST_DISK = 100e6
_LARGE_CACHE = 500e6

# What these do to a run, where a value other than the one named is set.
_VARIABLES = {
    "NUMBA_DISABLE_JIT": ("0", "runs every kernel as plain Python, hundreds of times slower"),
    "NUMBA_BOUNDSCHECK": ("0", "checks every index, several times slower"),
    "NUMBA_OPT": ("3", "compiles with less optimisation"),
    "NUMBA_DEBUG": ("0", "prints while it compiles"),
    "NUMBA_DEBUGINFO_DEFAULT": ("0", "compiles with less optimisation"),
    "NUMBA_ENABLE_AVX": ("1", "compiles without AVX"),
    "NUMBA_CPU_NAME": ("host", "compiles for another processor than this one"),
    "NUMBA_CPU_FEATURES": ("", "compiles for another processor than this one"),
    "NUMBA_THREADING_LAYER": ("default", "decides the thread layer instead of what is fastest here"),
}
_SHOWN = re.compile(r"(FASTCONV|NUMBA|OMP|KMP|GOMP|MKL|OPENBLAS|BLIS|TBB)_\w+")


def check_machine() -> list[Finding]:
    """Return what there is to say about this machine and this process."""
    layer = runtime.thread_layer()  # first: it starts the threads, whose libraries are looked for
    threads, libraries = runtime.get_num_threads(), pools.loaded()
    return [
        versions(_installed(), _requirements()),
        threads_used(threads, limits.usable_cores(), limits.core_limits(os.environ), os.environ),
        thread_layer(layer),
        instructions(instruction_set()),
        kernel_cache(os.environ),
        pools.thread_pools(libraries, layer, pools.blas_threads(libraries)),
        environment(os.environ),
    ]


# ------------------------------------------------------------------------------------------------------------ versions


def _installed() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires("fastconv") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source, without having been installed
        return []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def versions(installed: Mapping[str, str], requirements: Iterable[str]) -> Finding:
    """Compare what is installed with the ranges that fastconv asks for, such as 'numba<0.69,>=0.61'."""
    shown = f"fastconv {__version__}, Python {platform.python_version()}, "
    shown += ", ".join(f"{name} {version}" for name, version in installed.items())
    outside = [requirement for requirement in requirements if not _within(installed, requirement)]
    if outside:
        evidence = f"{shown}; expected {' and '.join(outside)}"
        return Finding("versions", "fault", evidence, f'pip install "{outside[0]}"')
    return Finding("versions", "ok", shown)


def _within(installed: Mapping[str, str], requirement: str) -> bool:
    """Whether a package is in its range; true of those that are not looked at, such as the requirements of an extra."""
    found = re.fullmatch(r"([\w-]+)([<>=,.\d]+)", requirement)
    if not found or found[1] not in installed:
        return True
    bounds = re.findall(r"(>=|<)([\d.]+)", found[2])
    return all((_numbers(installed[found[1]]) >= _numbers(edge)) == (bound == ">=") for bound, edge in bounds)


# ------------------------------------------------------------------------------------------------------------- threads


def threads_used(threads: int, usable: int, allowed: Sequence[limits.Limit], environment: Mapping[str, str]) -> Finding:
    """Compare the threads in use with the cores: ``usable`` by what each limit allows, the machine's own first."""
    cores = int(allowed[0].most)
    shown = f"{terminal.count(threads, 'thread')} on {terminal.count(cores, 'core')}"
    caps = [f"{name}={environment[name]}" for name in limits.VARIABLES if environment.get(name)]
    wrong = [cap for cap in caps if not re.fullmatch(r"[1-9]\d*(,.*)?", cap.partition("=")[2].strip())]
    if wrong:
        return Finding(
            "threads", "note", f"{shown}; {wrong[0]} is no number", f"set {wrong[0].partition('=')[0]}={cores}"
        )
    if threads > min(cores, usable):
        least = min(allowed)
        if usable < cores:
            shown += f", limited to {usable} by {least.by}"
        remedy = f"call fc.set_num_threads({usable}), or pass --threads {usable}"
        return Finding("threads", "note", f"{shown}: they wait for each other", remedy)
    if usable < cores:
        return Finding(
            "threads", "note", f"{shown}, limited to {usable} by {min(allowed).by}", "raise it if the cores are yours"
        )
    if threads < usable:
        return Finding("threads", "note", f"{shown}, by set_num_threads", f"call fc.set_num_threads({usable})")
    return Finding("threads", "ok", shown)


def thread_layer(layer: str) -> Finding:
    """Say what the thread layer in use cannot do."""
    slow = {
        "omp": "kernels do not run in forked children",
        "workqueue": "launches from several Python threads take turns",
        "interpreter": "kernels run as plain Python, hundreds of times slower",
    }
    if layer not in slow:
        return Finding("thread layer", "ok", layer)
    remedy = "pip install tbb, and unset NUMBA_THREADING_LAYER"
    if layer == "interpreter":
        remedy = "unset NUMBA_DISABLE_JIT"
    return Finding("thread layer", "note", f"{layer}: {slow[layer]}", remedy)


def instructions(found: str) -> Finding:
    """Say how many floats one instruction computes."""
    lanes = {"avx512": 16, "avx2": 8, "neon": 4}.get(found)
    if lanes is None:
        evidence = f"{found}: neither AVX2 nor AVX-512 nor NEON"
        return Finding("instructions", "note", evidence, "unset NUMBA_CPU_NAME, or use a newer processor")
    return Finding("instructions", "ok", f"{found}: {lanes} float32 in an instruction")


# --------------------------------------------------------------------------------------------------------------- cache


def kernel_cache(environment: Mapping[str, str]) -> Finding:
    """Look at the folder of compiled kernels: where it is, whether it can be used, how much is in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cache.CacheWarning)  # what it would say is said here
        place = cache.folder()
    if place is None:
        named = next((name for name in ("FASTCONV_CACHE_DIR", "XDG_CACHE_HOME", "HOME") if environment.get(name)), None)
        where = "no home folder" if named is None else f"{named}={environment[named]}"
        return Finding(
            "kernel cache",
            "note",
            f"no folder that can be written and that others cannot write to ({where}): kernels are compiled anew in "
            "every process, some nine seconds for LeNet-5",
            "set FASTCONV_CACHE_DIR to a folder of your own",
        )
    ours, others = _size_of(place), _size_of(place.parent) - _size_of(place)
    writable = os.access(place, os.W_OK)
    held = terminal.count(len(list(place.glob("*.kernel"))), "kernel")
    shown = f"{place}: {'writable' if writable else 'read-only'}, {held}, {ours / 1e6:,.0f} MB"
    if not writable:
        others_anew = "what is not in it is compiled anew in every process"
        return Finding(
            "kernel cache", "note", f"{shown}: {others_anew}", "set FASTCONV_CACHE_DIR to a folder of your own"
        )
    free = shutil.disk_usage(place).free
    if free < _LEAST_DISK:
        return Finding("kernel cache", "note", f"{shown}; {free / 1e6:,.0f} MB free", "make room on that disk")
    if others > _LARGE_CACHE:
        evidence = f"{shown}; {others / 1e6:,.0f} MB of other versions"
        return Finding("kernel cache", "note", evidence, f"delete {place.parent}: it fills again when needed")
    return Finding("kernel cache", "ok", shown)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.kernel"))


# --------------------------------------------------------------------------------------------------------- environment


def environment(variables: Mapping[str, str]) -> Finding:
    """Find variables that change how kernels are compiled and run."""
    shown = ", ".join(f"{name}={variables[name]}" for name in sorted(variables) if _SHOWN.fullmatch(name)) or "none set"
    effects = [
        (name, effect)
        for name, (harmless, effect) in _VARIABLES.items()
        if variables.get(name) not in (None, "", harmless)
    ]
    if effects:
        what = "; ".join(f"{name} {effect}" for name, effect in effects)
        return Finding("environment", "note", f"{shown}; {what}", f"unset {' '.join(name for name, _ in effects)}")
    return Finding("environment", "ok", shown)
