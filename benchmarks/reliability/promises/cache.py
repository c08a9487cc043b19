"""Whatever happened to the folder of compiled kernels: right results, at most one warning, and an end."""

import json
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from benchmarks import processes
from benchmarks.machine import ROOT
from benchmarks.reliability.children import CannotTry
from benchmarks.reliability.promise import Outcome, Promise

_SECONDS = 300
_PROCESSES = 8
_CACHE = "FASTCONV_CACHE_DIR"


_T = TypeVar("_T")


class Said(NamedTuple):
    """How a process that predicted ended."""

    sha256: str
    """Of its predictions, or ''."""
    compiled: int
    """Kernels, or parts of them."""
    read: list[str]
    """Names of the files that were used."""
    warnings: int
    wrong: str
    """What it may not do, or ''."""
    errors: str


class Case(NamedTuple):
    """What a scenario may use."""

    rng: np.random.Generator
    folder: Path
    """A copy of a folder with all kernels that a prediction needs."""
    right: str
    """The prediction's SHA-256."""
    read: list[str]
    """Names of the files that a prediction reads; others have become a part of these."""

    @property
    def inner(self) -> Path:
        """The folder that holds the kernels."""
        (found,) = (path for path in self.folder.iterdir() if path.is_dir())
        return found

    def some(self) -> list[Path]:
        """One kernel, several or all."""
        drawn = self.rng.permutation(len(self.read))[: self.one_of([1, 2, len(self.read)])]
        return [self.inner / self.read[number] for number in drawn]

    def one_of(self, these: Sequence[_T]) -> _T:
        """Draw one of these."""
        return these[self.below(len(these))]

    def below(self, n: int) -> int:
        """Draw a number from 0 to n - 1."""
        return int(self.rng.integers(n))


# ---------------------------------------------------------------------------------------------------------- processes


def start(
    folder: Path | str | None,
    words: Sequence[str] = (),
    prefix: Sequence[str] = (),
    changes: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> "subprocess.Popen[str]":
    """Start a process that predicts with this folder; ``words`` as in ``_main``, ``prefix`` is what starts it."""
    environment = processes.environment({_CACHE: str(folder or ""), **(changes or {})})
    command = [*prefix, sys.executable, "-m", __name__, *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd or ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def end(process: "subprocess.Popen[str]") -> Said:
    """Return what a process said, when it ended; one that does not is killed."""
    try:
        out, errors = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Said("", 0, [], 0, f"no end after {_SECONDS} s", "")
    warnings = errors.count("CacheWarning: ")
    wrong = "a traceback" if "Traceback" in errors else f"exit code {process.returncode}" if process.returncode else ""
    if wrong or not out:
        return Said("", 0, [], warnings, f"{wrong or 'silence'}: {errors[-400:]}", errors)
    found = json.loads(out)
    return Said(found["sha256"], found["compiled"], found["read"], warnings, "", errors)


def judge(said: Said, right: str, warnings: int | None = None, compiles: bool | None = None) -> list[str]:
    """Return what was wrong: so many warnings are expected, at most one if None; and to compile, or not."""
    if said.wrong:
        return [said.wrong]
    wrong = [] if said.sha256 == right else [f"predictions {said.sha256[:12]}, not {right[:12]}"]
    if said.warnings > 1 or warnings not in (None, said.warnings):
        wrong.append(
            f"{said.warnings} warnings, not {'at most 1' if warnings is None else warnings}: {said.errors[-400:]}"
        )
    if compiles not in (None, said.compiled > 0):
        wrong.append(f"{said.compiled} functions compiled")
    return wrong


# ------------------------------------------------------------------------------------------------------- damaged files


def _damaging(
    damage: Callable[[Case, Path], None], warnings: int = 1, heals: bool = True
) -> Callable[[Case], list[str]]:
    def scenario(case: Case) -> list[str]:
        for path in case.some():
            damage(case, path)
        wrong = judge(end(start(case.folder)), case.right, warnings, compiles=True)
        again = judge(end(start(case.folder)), case.right, 0 if heals else 1, compiles=not heals)
        return wrong + [f"the next process: {one}" for one in again]

    return scenario


def _flip(case: Case, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(case.one_of([1, 1, 8, 1000])):
        place = case.below(8 * len(content))
        content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def _cut(case: Case, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: case.one_of([0, case.below(len(content)), len(content) - 1])])


def _overwrite(case: Case, path: Path) -> None:
    content = bytearray(path.read_bytes())
    first = case.below(len(content) - 64)
    size = 64 + case.below(len(content) - 64 - first)
    content[first : first + size] = case.one_of([b"\xff" * size, case.rng.bytes(size), b""])
    path.write_bytes(content)


def _lengthen(case: Case, path: Path) -> None:
    path.write_bytes(path.read_bytes() + case.rng.bytes(1 + case.below(5000)))


def _exchange(case: Case, path: Path) -> None:
    other = case.one_of([other for other in path.parent.glob("*.kernel") if other != path])
    path.write_bytes(other.read_bytes())


def _other_version(case: Case, path: Path) -> None:
    """Put there what was written with care, and is nothing that can be used."""
    from fastconv_kernels.cache import _checksum

    payload = case.one_of([pickle.dumps(("other", [1, 2])), b"", b"cnone_such\nthing\n.", pickle.dumps(None)[:-1]])
    path.write_bytes(_checksum(path, payload) + payload)


def _pipe(case: Case, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _device(case: Case, path: Path) -> None:
    path.unlink()
    path.symlink_to(case.one_of(["/dev/zero", "/dev/full", "/dev/tty"]))


def _dangle(case: Case, path: Path) -> None:
    path.unlink()
    path.symlink_to(case.folder / "none such")


def _terabyte(case: Case, path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def _make_folder(case: Case, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _forbid(case: Case, path: Path) -> None:
    path.chmod(0)


# --------------------------------------------------------------------------------------------------- folders in the way


def _opened(case: Case) -> list[str]:
    case.one_of([case.folder, case.inner]).chmod(case.one_of([0o770, 0o702, 0o777, 0o720]))
    return judge(end(start(case.folder)), case.right, 1, compiles=True)


def _foreign(case: Case) -> list[str]:
    try:
        os.chown(case.one_of([case.folder, case.inner]), 12345, 12345)
    except OSError as error:
        raise CannotTry(f"a folder cannot be given away here ({error.strerror})") from None
    return judge(end(start(case.folder)), case.right, 1, compiles=True)


def _no_home(case: Case) -> list[str]:
    changes = {"XDG_CACHE_HOME": "", "HOME": "/proc/none"}
    return judge(end(start(None, changes=changes)), case.right, 1, compiles=True)


def _nobody(case: Case) -> list[str]:
    """Run as a user without an entry, as in many containers, and without a variable that names a home."""
    prefix = ["unshare", "--map-user=54321", "--map-group=54321", "env", "-u", "HOME"]
    _can_unshare(prefix)
    return judge(end(start(None, prefix=prefix, changes={"XDG_CACHE_HOME": ""})), case.right, 1, compiles=True)


def _impossible(case: Case) -> list[str]:
    """Name what cannot be a folder."""
    file, loop = case.folder.parent / "file", case.folder.parent / "loop"
    file.write_text("no folder")
    loop.symlink_to(loop)
    named = case.one_of(
        [file, file / "in", loop, "/dev/null", "/proc/self", "x" * 5000, "/dev/fd/99/x", "\udcff/" * 900]
    )
    return judge(end(start(named)), case.right, 1, compiles=True)


def _elsewhere(case: Case) -> list[str]:
    """Name a relative path, in a process that changes its folder after the first kernel."""
    os.rename(case.folder, case.folder.parent / "relative")
    cwd = case.folder.parent
    said = judge(end(start("relative", ["elsewhere"], cwd=cwd)), case.right, 0, compiles=False)
    said += judge(end(start("new", ["elsewhere"], cwd=cwd)), case.right, 0, compiles=True)
    return said + judge(end(start("new", ["elsewhere"], cwd=cwd)), case.right, 0, compiles=False)


def _removed(case: Case) -> list[str]:
    """Remove the folder while a process runs."""
    return judge(end(start(case.folder.parent / "new", ["remove"])), case.right, 1, compiles=True)


# ---------------------------------------------------------------------------------------------------------------- disks


def _can_unshare(prefix: Sequence[str]) -> None:
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CannotTry(f"a disk or user of its own cannot be had here ({reason})")


def _on_disk(case: Case, options: str, then: str) -> "subprocess.Popen[str]":
    """Start a process with a small disk of its own, on which a shell first does something in ``$disk``."""
    disk = case.folder.parent / "disk"
    disk.mkdir(exist_ok=True)
    places = f"disk={shlex.quote(str(disk))} filled={shlex.quote(str(case.folder))}"
    mounted = f'{places}; mount -t tmpfs -o mode=700,{options} tmpfs "$disk" && {then} && exec "$@"'
    prefix = ["unshare", "-rm", "sh", "-c"]
    _can_unshare([*prefix, mounted, "sh"])
    return start(disk, prefix=[*prefix, mounted, "sh"])


def _read_only(case: Case) -> list[str]:
    """Read kernels where none can be written."""
    then = 'cp -r "$filled/." "$disk" && mount -o remount,ro "$disk"'
    return judge(end(_on_disk(case, "size=50m", then)), case.right, 0, compiles=False)


def _read_only_and_not_complete(case: Case) -> list[str]:
    for path in case.some():
        path.unlink()
    then = 'cp -r "$filled/." "$disk" && mount -o remount,ro "$disk"'
    return judge(end(_on_disk(case, "size=50m", then)), case.right, 1, compiles=True)


def _full(case: Case) -> list[str]:
    """Write on a disk that is full from the beginning, or sooner or later."""
    options = case.one_of(["size=4k", "size=40k", "size=120k", "nr_inodes=1"])
    return judge(end(_on_disk(case, options, "true")), case.right, 1, compiles=True)


# ------------------------------------------------------------------------------------------------------------ processes


def _all_cold(case: Case) -> list[str]:
    """Begin with an empty folder in many processes at once."""
    new = case.folder.parent / "new"
    running = [start(new) for _ in range(_PROCESSES)]
    wrong = [one for process in running for one in judge(end(process), case.right, 0)]
    wrong += [f"{path.name} is left" for path in new.rglob("*") if path.is_file() and path.suffix != ".kernel"]
    return wrong + judge(end(start(new)), case.right, 0, compiles=False)


def _damaged_meanwhile(case: Case) -> list[str]:
    """Damage files while processes read and write them."""
    running, last = [start(case.folder) for _ in range(_PROCESSES // 2)], time.monotonic() + _SECONDS
    while any(process.poll() is None for process in running) and time.monotonic() < last:
        for path in case.inner.glob("*.kernel"):
            content = path.read_bytes()
            path.write_bytes(content[: case.below(len(content) + 1)])
        time.sleep(0.02)
    wrong = [one for process in running for one in judge(end(process), case.right)]
    return wrong + judge(end(start(case.folder)), case.right)


def _killed(case: Case) -> list[str]:
    """Kill a process while it compiles and writes."""
    new = case.folder.parent / "new"
    process = start(new)
    while process.poll() is None and not list(new.rglob("*.kernel")):
        time.sleep(0.001)
    time.sleep(case.rng.uniform(0, 1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wrong = judge(end(start(new)), case.right, 0)
    return wrong + judge(end(start(new)), case.right, 0, compiles=False)


# ------------------------------------------------------------------------------------------------------------- versions


def _changed_helper(case: Case) -> list[str]:
    """Let a function that kernels take in from another file compute something else."""
    kernels = case.folder.parent / "kernels"
    shutil.copytree(ROOT / "kernels", kernels, ignore=shutil.ignore_patterns("__pycache__"))
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(kernels)])}
    same = judge(end(start(case.folder, changes=path)), case.right, 0, compiles=False)
    tile = kernels / "fastconv_kernels" / "tile.py"
    before, comparison = tile.read_text(encoding="utf-8"), 'builder.fcmp_ordered("{}", v, zero), zero, v'
    after = before.replace(comparison.format("<="), comparison.format(">="))
    assert after != before
    tile.write_text(after, encoding="utf-8")
    cold = end(start(case.folder.parent / "new", changes=path))
    changed = judge(end(start(case.folder, changes=path)), cold.sha256, 0, compiles=True)
    if cold.wrong or cold.sha256 == case.right:
        changed.append(f"the change changed nothing {cold.wrong}")
    return same + changed + judge(end(start(case.folder)), case.right, 0, compiles=False)


def _upgraded(case: Case) -> list[str]:
    """Compile anew for another version of Numba or of LLVM; the first one then finds what it had compiled."""
    words = [case.one_of(["numba", "llvmlite"])]
    wrong = judge(end(start(case.folder, words)), case.right, 0, compiles=True)
    wrong += judge(end(start(case.folder, words)), case.right, 0, compiles=False)
    return wrong + judge(end(start(case.folder)), case.right, 0, compiles=False)


def _restored(case: Case) -> list[str]:
    """Put files of other sources where those of these sources should be."""
    other = end(start(case.folder, ["numba"]))
    ours, theirs = sorted((path for path in case.folder.iterdir()), key=lambda path: path.stat().st_ctime)
    for path in ours.iterdir():
        shutil.copy(theirs / path.name, path)
    return judge(other, case.right, 0, compiles=True) + judge(end(start(case.folder)), case.right, 1, compiles=True)


SCENARIOS: dict[str, Callable[[Case], list[str]]] = {
    "cut short": _damaging(_cut),
    "another kernel's file": _damaging(_exchange),
    "a pipe": _damaging(_pipe),
    "flipped bits": _damaging(_flip),
    "overwritten": _damaging(_overwrite),
    "longer": _damaging(_lengthen),
    "not to be used": _damaging(_other_version),
    "a device": _damaging(_device),
    "a link to nowhere": _damaging(_dangle, warnings=0),
    "a terabyte": _damaging(_terabyte),
    "a folder": _damaging(_make_folder, heals=False),
    "open to others": _opened,
    "of another user": _foreign,
    "absent home": _no_home,
    "a user without a home": _nobody,
    "what cannot be a folder": _impossible,
    "a relative path": _elsewhere,
    "removed": _removed,
    "read-only disk": _read_only,
    "read-only disk, kernels missing": _read_only_and_not_complete,
    "full disk": _full,
    "cold processes at once": _all_cold,
    "damaged meanwhile": _damaged_meanwhile,
    "killed": _killed,
    "changed helper": _changed_helper,
    "upgraded": _upgraded,
    "files of another version": _restored,
}


def chosen(seed: int, cases: int) -> list[str]:
    """Return a scenario for each case: all in turn, or if cases are fewer, as far from one another as they can be."""
    kinds = list(SCENARIOS)
    step = max(1, len(kinds) // cases)
    return [kinds[(seed + number * step) % len(kinds)] for number in range(cases)]


def measure(seed: int, cases: int) -> Outcome:
    """Go through the scenarios, as often as it takes for so many cases."""
    failures, notes, tried = [], set(), []
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        first, warm = end(start(top / "filled")), end(start(top / "filled"))
        if wrong := [*judge(first, first.sha256, 0), *judge(warm, first.sha256, 0, compiles=False)]:
            return Outcome("kernels are not kept at all", wrong)
        for number, kind in enumerate(chosen(seed, cases)):
            place = top / str(number)
            copy = shutil.copytree(top / "filled", place / "copy")
            try:
                wrong = SCENARIOS[kind](Case(np.random.default_rng([seed, number]), copy, first.sha256, warm.read))
            except CannotTry as error:
                notes.add(f"{kind}: {error}")
                continue
            tried.append(kind)
            failures += [f"case {number}, {kind}: {one}" for one in wrong]
            shutil.rmtree(place)
    figure = (
        f"{len(tried)} cases of {len(set(tried))} kinds: {len(failures)} wrong predictions, second "
        "warnings, tracebacks, hangs or needless compilations"
    )
    return Outcome(figure, failures, sorted(notes))


# ------------------------------------------------------------------------------------------------------ in the process


def _main(words: Sequence[str]) -> None:
    """Predict, and say what was predicted and how much was compiled.

    ``elsewhere`` goes to another folder, and ``remove`` removes the cache, after the first kernel; ``numba`` and
    ``llvmlite`` are of another version.
    """
    import hashlib

    import llvmlite
    import numba
    from numba.core import event

    for package in (numba, llvmlite):
        if package.__name__ in words:
            package.__version__ += ".1"

    import fastconv as fc
    from fastconv.data import digits10k
    from fastconv_kernels.cache import KernelCache, folder

    class Count(event.Listener):
        compiled = 0

        def on_start(self, event: Any) -> None:
            Count.compiled += 1

        def on_end(self, event: Any) -> None:
            """Only the start is counted."""

    load, read = KernelCache.load_overload, []

    def noted(self: KernelCache, sig: Any, target_context: Any) -> Any:
        found = load(self, sig, target_context)
        path = self._path(sig, target_context.codegen())
        if found is not None and path is not None:
            read.append(path.name)
        return found

    KernelCache.load_overload = noted
    event.register("numba:compile", Count())
    model = fc.Sequential(fc.Conv2d(1, 4, 5), fc.ReLU(), fc.Flatten(), fc.Linear(4 * 24 * 24, 10), seed=1)
    images = digits10k().images[:33]
    digest = hashlib.sha256(fc.functional.relu(images[:, 0, 0].astype(np.float32)).tobytes())
    if "elsewhere" in words:
        os.chdir("/")
    if "remove" in words:
        place = folder()
        assert place is not None
        shutil.rmtree(place.parent)
    digest.update(model.predict_proba(images).tobytes())
    print(json.dumps({"sha256": digest.hexdigest(), "compiled": Count.compiled, "read": read}))


PROMISE = Promise(
    "Whatever happens to the compiled kernels on disk, results are right",
    "files cut short, flipped, overwritten, exchanged, of another version, replaced by pipes, devices, links, folders, "
    "a terabyte; folders open to others, of another user, read-only, removed, impossible; no home; a full disk; eight "
    "cold processes at once, files damaged meanwhile, `kill -9` while compiling; a changed helper, another version of "
    "Numba. Predictions equal to the bit, at most one warning, no traceback; where a damaged file can be replaced, the "
    "next process compiles nothing",
    measure,
    short=4,
    long=2 * len(SCENARIOS),
)

if __name__ == "__main__":
    _main(sys.argv[1:])
