"""Control groups: real ones where they can be made here, and trees of files that look like them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastconv_kernels import limits

_MB = 2**20


class Tree(NamedTuple):
    """A folder with /proc and /sys of a process, and what they allow it."""

    root: Path
    cores: float | None
    """None without a quota."""
    free: float | None
    """Bytes; None without a limit to memory."""


def tree(rng: np.random.Generator, root: Path, memory: float | None = None) -> Tree:
    """Write the files of a process in a few groups inside each other, some of which have limits.

    Parameters
    ----------
    rng : Generator
        Draws the version, where groups are mounted, how deep they are, and limits.
    root : Path
        An empty folder.
    memory : float, optional
        What is to be free; by default some is, or there is no limit.
    """
    kind = rng.choice(["v1", "v2", "hybrid", "container v1", "container v2", "no proc"])
    names = [f"level {k}" if rng.random() < 0.1 else f"level{k}" for k in range(int(rng.integers(0, 4)))]
    outside = ["docker", "abc"] if kind.startswith("container") else []
    names = [] if kind == "no proc" else names
    is_v2 = kind in ("v2", "container v2", "no proc")
    path = "/" + "/".join([*outside, *names])
    base = "/" + "/".join(outside)
    unified = "/sys/fs/cgroup/unified" if kind == "hybrid" else "/sys/fs/cgroup"
    mounts, memberships = [f"1 0 0:1 / {unified} rw - cgroup2 cgroup2 rw"], [f"0::{'/' if not is_v2 else path}"]
    if is_v2:
        mounts, folders = [f"1 0 0:1 {base} {unified} rw - cgroup2 cgroup2 rw"], (unified, unified)
    else:
        folders = ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory")
        mounts += [
            f"2 0 0:2 {base} {folders[0]} rw shared:3 - cgroup cgroup rw,cpu,cpuacct",
            f"3 0 0:3 {base} {folders[1]} rw - cgroup cgroup rw,memory",
        ]
        memberships += [f"5:cpuacct,cpu:{path}", f"4:memory:{path}"]
    if kind != "no proc":
        _write(root / "proc/self/mountinfo", "\n".join(line for line in mounts) + "\n")
        _write(root / "proc/self/cgroup", "\n".join(memberships) + "\n")

    cores: list[float] = []
    free: list[float] = []
    for depth in range(len(names) + 1):
        processor, store = ((root / folder.lstrip("/")).joinpath(*names[:depth]) for folder in folders)
        is_last = depth == len(names)
        quota = int(rng.integers(5, 600)) * 1000 if rng.random() < 0.5 else None
        if quota is not None:
            cores.append(quota / 100_000)
        if is_v2:
            _write(processor / "cpu.max", f"{quota or 'max'} 100000\n")
        else:
            _write(processor / "cpu.cfs_quota_us", f"{quota or -1}\n")
            _write(processor / "cpu.cfs_period_us", "100000\n")
        used, cached = int(rng.integers(100, 900)) * _MB, int(rng.integers(0, 90)) * _MB
        room = memory if memory is not None and is_last else float(rng.integers(1000, 90_000)) * _MB
        limit = int(used + room - cached) if (rng.random() < 0.5 or (memory is not None and is_last)) else None
        if limit is not None:
            free.append(room)
        prefix = "" if is_v2 else "total_"
        _write(store / "memory.stat", f"anon 5\n{prefix}inactive_file {cached}\n{prefix}active_file 0\n")
        if is_v2:
            _write(store / "memory.max", f"{limit or 'max'}\n")
            _write(store / "memory.current", f"{used}\n")
        else:
            _write(store / "memory.limit_in_bytes", f"{limit or 9223372036854771712}\n")
            _write(store / "memory.usage_in_bytes", f"{used}\n")
    return Tree(root, min(cores, default=None), min(free, default=None))


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@contextmanager
def quota(cores: float) -> Iterator[Path]:
    """Make a group below that of this process with a CPU quota, and remove it afterwards.

    Raises
    ------
    OSError
        If none can be made here; the message says why.
    """
    mine = next(iter(limits._groups(limits.ROOT, "cpu")), None)
    own = limits._memberships(limits.ROOT, "cpu")
    if mine is None:
        raise OSError("there are no control groups")
    folder, version = mine
    if own.get(version, "/") != "/":
        raise OSError(f"this process is in {own[version]}, which whoever watches it has made")
    made = folder / f"fastconv-{os.getpid()}"
    made.mkdir()
    try:
        if version == 2:
            (made / "cpu.max").write_text(f"{int(cores * 100_000)} 100000")
        else:
            (made / "cpu.cfs_quota_us").write_text(str(int(cores * 100_000)))
        yield made
    finally:
        made.rmdir()
