"""A check of the process: other libraries in it that have threads of their own, and what they do to kernels."""

import ctypes
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from fastconv import terminal
from fastconv.checkup.findings import Finding

_POOLS = {
    "OpenBLAS": re.compile(r"lib(scipy_)?openblas"),
    "MKL": re.compile(r"libmkl_(rt|core)"),
    "BLIS": re.compile(r"libblis"),
    "GNU OpenMP": re.compile(r"libgomp"),
    "Intel OpenMP": re.compile(r"libiomp5"),
    "LLVM OpenMP": re.compile(r"libomp[-.\d]"),
    "TBB": re.compile(r"libtbb(-\w+)?\.so"),
}
# Of each BLAS, the functions that return its number of threads, by the names that its builds give them.
_COUNTS = {
    "OpenBLAS": [f"{scipy}openblas_get_num_threads{wide}" for scipy in ("", "scipy_") for wide in ("", "64_")],
    "MKL": ["MKL_Get_Max_Threads"],
    "BLIS": ["bli_thread_get_num_threads"],
}
_VARIABLES = {"OpenBLAS": "OPENBLAS_NUM_THREADS", "MKL": "MKL_NUM_THREADS", "BLIS": "BLIS_NUM_THREADS"}


def loaded() -> list[str]:
    """Return the shared libraries that this process has loaded; none where Linux's /proc is not there."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return sorted({line[line.index("/") :] for line in lines if "/" in line and ".so" in line})


def _pools(libraries: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in libraries:
        for name, pattern in _POOLS.items():
            if pattern.match(path.rpartition("/")[2]):
                found.setdefault(name, []).append(path)
    return found


def blas_threads(libraries: Iterable[str]) -> dict[str, int]:
    """Ask each BLAS among loaded libraries for its number of threads; those that do not say are left out."""
    found: dict[str, int] = {}
    for name, paths in _pools(libraries).items():
        for path in paths if name in _COUNTS else ():
            try:
                library = ctypes.CDLL(path)
            except OSError:  # its file has been replaced or removed since
                continue
            counts = [int(getattr(library, count)()) for count in _COUNTS[name] if hasattr(library, count)]
            found[name] = max([found.get(name, 0), *counts])
    return {name: threads for name, threads in found.items() if threads}


def thread_pools(libraries: Iterable[str], layer: str, blas: Mapping[str, int]) -> Finding:
    """Find pools that are there twice, and a BLAS of several threads beside kernels whose threads spin.

    Parameters
    ----------
    libraries : iterable of str
        Paths of the shared libraries in this process.
    layer : str
        The thread layer of kernels.
    blas : mapping
        The number of threads of each BLAS.
    """
    found = _pools(libraries)
    shown = ", ".join(name if len(paths) == 1 else f"{len(paths)} x {name}" for name, paths in found.items()) or "none"
    openmp = [path for name, paths in found.items() if "OpenMP" in name for path in paths]
    for paths in (openmp, found.get("TBB", [])):
        if len(paths) > 1:
            return Finding(
                "thread pools",
                "note",
                f"{shown}; {' and '.join(paths)} have a pool each, and each takes all cores",
                "limit the other library's threads, such as torch.set_num_threads(1), or give it a process of its own",
            )
    several = [name for name, threads in blas.items() if threads > 1]
    if layer == "omp" and several:
        counted = ", ".join(f"{name} has {terminal.count(blas[name], 'thread')}" for name in several)
        return Finding(
            "thread pools",
            "note",
            f"{shown}; {counted}, and kernels run under omp, whose threads spin for a while after each: products of "
            "matrices in between, such as NumPy's, wait for cores, up to a hundred times as long",
            f"set {' '.join(f'{_VARIABLES[name]}=1' for name in several)}, or pip install tbb and unset "
            "NUMBA_THREADING_LAYER",
        )
    return Finding("thread pools", "ok", shown)
