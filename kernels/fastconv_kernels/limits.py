"""What this process may use: cores and memory, of the machine and of the containers that it runs in.

Numba and NumPy look at the machine alone.  On Linux a process may also be bound to some of the cores (``taskset``), lie
in control groups with a share of processor time and of memory (containers, systemd, batch systems), which limit it
together with all groups above them, and have limits of its own (``ulimit``).  Nothing here imports Numba.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# Here, since Ctrl-C in the middle of an import may leave Python's lock of imports held, and every other thread waiting.
try:
    import resource
except ImportError:  # Windows
    resource = None

ROOT = Path("/")
"""Where ``/proc`` and ``/sys`` are."""

VARIABLES = ("FASTCONV_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
"""Those of the environment that cap the number of threads."""

_UNLIMITED = 2**60  # what a control group without a limit says in version 1 is close to 2**63


class Limit(NamedTuple):
    """A limit, and who sets it."""

    most: float
    """Cores, or bytes that are still free."""
    by: str


# --------------------------------------------------------------------------------------------------------------- cores


def usable_cores(root: Path | str | None = None) -> int:
    """Return the number of threads to use: the least of what each limit allows, and 1 at least."""
    # Half a core's share is worth a thread: two threads get more out of 1.5 cores than one does.
    return max(1, min(int(limit.most + 0.5) for limit in core_limits(os.environ, root)))


def core_limits(environment: Mapping[str, str], root: Path | str | None = None) -> list[Limit]:
    """Return what limits the cores of this process: the machine, its affinity, quotas, variables of the environment."""
    there = os.cpu_count() or 1
    found = [Limit(there, "the machine")]
    if hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
        if bound < there:
            found.append(Limit(bound, "the CPU affinity"))
    found += _quotas(ROOT if root is None else Path(root))
    for name in VARIABLES:
        cap = environment.get(name, "").split(",")[0].strip()
        if cap.isdecimal() and int(cap) > 0:
            found.append(Limit(int(cap), f"{name}={cap}"))
    return found


def check_variables(environment: Mapping[str, str]) -> None:
    """Raise ValueError if Numba's number of threads is one with which Numba does not start, nor says why."""
    given = environment.get("NUMBA_NUM_THREADS", "").strip()
    if re.fullmatch(r"[+-]?\d+", given) and int(given) < 1:
        raise ValueError(f"NUMBA_NUM_THREADS: expected a whole number of at least 1, got {given}; unset it")


def _quotas(root: Path) -> Iterator[Limit]:
    for folder, version in _groups(root, "cpu"):
        if version == 2:
            numbers = _words(folder / "cpu.max")[:2]
        else:
            numbers = [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
        # No quota is "max", or -1.
        if len(numbers) == 2 and all(number.isdecimal() and int(number) for number in numbers):
            quota, period = map(int, numbers)
            yield Limit(quota / period, f"the CPU quota of {_shown(folder, root)}, {quota / period:.3g} cores")


# -------------------------------------------------------------------------------------------------------------- memory


def free_memory(root: Path | str | None = None) -> Limit | None:
    """Return how many bytes this process can still take, by whatever allows the least; None where nothing says it."""
    root = ROOT if root is None else Path(root)
    return min([*_of_machine(root), *_of_groups(root), *_of_process(root)], default=None)


def _of_machine(root: Path) -> Iterator[Limit]:
    machine = _table(root / "proc/meminfo", 1024)
    if "MemAvailable" in machine:
        yield Limit(machine["MemAvailable"] + machine.get("SwapFree", 0), "the machine's free memory")


def _of_groups(root: Path) -> Iterator[Limit]:
    for folder, version in _groups(root, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = (_words(folder / name)[:1] for name in names)
        if not (limit and used and limit[0].isdecimal() and used[0].isdecimal()) or int(limit[0]) > _UNLIMITED:
            continue
        # The cache of files counts as used, but makes room by itself.
        cached = _table(folder / "memory.stat", 1)
        prefix = "" if version == 2 else "total_"
        files = sum(cached.get(f"{prefix}{name}_file", 0) for name in ("active", "inactive"))
        free = int(limit[0]) - int(used[0]) + min(files, int(used[0]))
        if version == 2:
            swap, swapped = (_words(folder / f"memory.swap.{name}")[:1] for name in ("max", "current"))
            here = _table(root / "proc/meminfo", 1024).get("SwapFree", 0)
            if swap and swapped and swapped[0].isdecimal():
                more = max(0, int(swap[0]) - int(swapped[0])) if swap[0].isdecimal() else here
                free += min(more, here)
        yield Limit(max(0, free), f"the memory limit of {_shown(folder, root)}, {int(limit[0]) / 2**20:,.0f} MB")


def _of_process(root: Path) -> Iterator[Limit]:
    if resource is None:
        return
    used = _table(root / "proc/self/status", 1024)
    for name, limit, counted in (
        ("an address space (ulimit -v)", "RLIMIT_AS", "VmSize"),
        ("private memory (ulimit -d)", "RLIMIT_DATA", "VmData"),
    ):
        most = resource.getrlimit(getattr(resource, limit))[0]
        if most != resource.RLIM_INFINITY and counted in used:
            yield Limit(max(0, most - used[counted]), f"the limit of this process to {name}, {most / 2**20:,.0f} MB")


# ------------------------------------------------------------------------------------------------------ control groups


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the folders of the control groups that this process is in, the innermost first, and their version."""
    inside = _memberships(root, controller)
    for base, point, version in _mounts(root, controller):
        path = inside.get(version, "/")
        # In a container its own group may be mounted as the top, and its path be that of the machine outside.
        below = path[len(base.rstrip("/")) :] if path == base or path.startswith(base.rstrip("/") + "/") else ""
        parts = [part for part in below.split("/") if part]
        top = root / point.lstrip("/")
        for length in range(len(parts), -1, -1):
            folder = top.joinpath(*parts[:length])
            if ".." not in parts and folder.is_dir():
                yield folder, version


def _memberships(root: Path, controller: str) -> dict[int, str]:
    """Return the path of this process's group in each version of control groups."""
    found: dict[int, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            found[1] = path
        elif number == "0" and not controllers:
            found[2] = path
    return found


def _mounts(root: Path, controller: str) -> list[tuple[str, str, int]]:
    """Return (group, folder, version) for each place where groups with this controller are mounted."""
    found: list[tuple[str, str, int]] = []
    for line in _lines(root / "proc/self/mountinfo"):
        where, _, what = line.partition(" - ")
        fields, kind = where.split(), what.split()
        if len(fields) < 5 or not kind:
            continue
        base, point = (_unescaped(field) for field in fields[3:5])
        if kind[0] == "cgroup2":
            found.append((base, point, 2))
        elif kind[0] == "cgroup" and controller in kind[-1].split(","):
            found.append((base, point, 1))
    # Where /proc does not say it, as in some sandboxes, they are where they usually are.
    return found or [("/", "/sys/fs/cgroup", 2), ("/", f"/sys/fs/cgroup/{controller}", 1)]


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _shown(folder: Path, root: Path) -> str:
    return f"/{folder.relative_to(root)}"


# --------------------------------------------------------------------------------------------------------------- files


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _table(path: Path, unit: int) -> dict[str, int]:
    """Return the numbers of a file with lines such as 'MemFree: 12 kB' or 'active_file 12', times a unit."""
    found: dict[str, int] = {}
    for line in _lines(path):
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[1].isdecimal():
            found[words[0]] = unit * int(words[1])
    return found
