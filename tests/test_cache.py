"""Compiled kernels on disk: right results whatever happened to the files, and never a failed import."""

import os
import random
import shutil
import stat
from textwrap import dedent

import pytest
from permissions import give_away
from subprocesses import ROOT, run, succeed

from fastconv_kernels import cache

CALL = """
import numpy as np
from fastconv_kernels.bias import sum_shares
from fastconv_kernels.many import Many
total = np.empty(5, np.float32)
sum_shares(*Many([(np.arange(10, dtype=np.float32).reshape(2, 5), total)]).table, 2)
print(*total.astype(int))
"""
RIGHT = "5 7 9 11 13"
COMPILED = """
from numba.core import event
class Count(event.Listener):
    compiled = 0
    def on_start(self, event): Count.compiled += 1
    def on_end(self, event): pass
event.register("numba:compile", Count())
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache folder that holds the kernel of CALL."""
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o700)
    assert succeed(CALL, FASTCONV_CACHE_DIR=folder) == RIGHT
    return folder


def kernels_in(folder):
    return sorted(folder.rglob("*.kernel"))


def test_the_next_process_compiles_nothing(filled):
    out = succeed(COMPILED + CALL + "print(Count.compiled)", FASTCONV_CACHE_DIR=filled)
    assert out.split("\n") == [RIGHT, "0"]


def test_the_next_process_does_not_make_ready_to_compile(filled):
    out = succeed("import sys\n" + CALL + "print('numba.np.arrayobj' in sys.modules)", FASTCONV_CACHE_DIR=filled)
    assert out.split("\n") == [RIGHT, "False"]


def test_a_kernel_is_compiled_beside_those_that_were_cached(filled, tmp_path):
    """Both the kernel of CALL, and one that becomes a part of the new one."""
    folder = shutil.copytree(filled, tmp_path / "copy")
    code = (
        COMPILED
        + CALL
        + """
from fastconv_kernels.activation import dropout
from fastconv_kernels.counter import random_bits
print(random_bits(np.uint64(1), np.uint64(2)), end=" ")
y = np.empty((1, 3, 16), np.float32)
dropout(np.ones_like(y), y, np.uint64(3), np.uint64(2**63), 2.0)
print(*y.astype(int).flat)
print(Count.compiled)
"""
    )
    *first, compiled = succeed(code, FASTCONV_CACHE_DIR=folder).split("\n")
    (file,) = folder.rglob("dropout-*.kernel")
    file.unlink()
    *again, compiled_again = succeed(code, FASTCONV_CACHE_DIR=folder).split("\n")
    assert first == again
    assert first[0] == RIGHT
    assert 0 < int(compiled_again) < int(compiled)


def with_a_kernel_file(tmp_path, name, text):
    """Return the import path of a copy that has one more file of kernels: those of other packages are not cached."""
    kernels = shutil.copytree(ROOT / "kernels", tmp_path / "kernels")
    (kernels / "fastconv_kernels" / name).write_text(dedent(text))
    return ROOT, kernels


def test_composed_kernels_are_found_by_the_next_process(tmp_path):
    path = with_a_kernel_file(
        tmp_path,
        "composed.py",
        """
        from fastconv_kernels.runtime import kernel

        def make(step, n):
            @kernel(parallel=False)
            def twice(x):
                for _ in range(n):
                    step(x)
            return twice

        @kernel(parallel=False)
        def add_one(x):
            x += 1

        @kernel(parallel=False)
        def add_two(x):
            x += 2
        """,
    )
    code = (
        COMPILED
        + """
from fastconv_kernels.composed import add_one, add_two, make
import numpy as np

for step, n in ((add_one, 2), (add_two, 2), (add_one, 3)):
    x = np.zeros(1)
    make(step, n)(x)
    print(int(x[0]), end=" ")
print(Count.compiled)
"""
    )
    cache = tmp_path / "cache"
    first = succeed(code, path=path, FASTCONV_CACHE_DIR=cache).split()
    again = succeed(code, path=path, FASTCONV_CACHE_DIR=cache).split()
    assert first[:3] == again[:3] == ["2", "4", "3"]
    assert int(first[3]) > 0
    assert again[3] == "0"


@pytest.mark.parametrize("tenth", [0, 5])
def test_a_truncated_file_is_compiled_again_with_one_warning(filled, tmp_path, tenth):
    folder = shutil.copytree(filled, tmp_path / "copy")
    (file,) = kernels_in(folder)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * tenth // 10])
    done = run(CALL, FASTCONV_CACHE_DIR=folder)
    assert (done.returncode, done.stdout.strip()) == (0, RIGHT)
    assert done.stderr.count("CacheWarning") == 1
    assert "is damaged; compiling again" in done.stderr
    assert file.read_bytes()[:32] == content[:32] or file.stat().st_size > 32
    again = run(CALL, FASTCONV_CACHE_DIR=folder)
    assert (again.stdout.strip(), again.stderr) == (RIGHT, "")


@pytest.mark.parametrize("change", ["exchanged", "moved"])
def test_a_whole_file_in_the_place_of_another_is_compiled_again(filled, tmp_path, change):
    """Its content is what was written once: for another kernel, or from other sources."""
    folder = shutil.copytree(filled, tmp_path / "copy")
    (file,) = kernels_in(folder)
    content = file.read_bytes()
    named = file.parent / f"other{file.name}" if change == "exchanged" else file.parent.parent / "older" / file.name
    assert content == cache._checksum(file, content[32:]) + content[32:]
    file.write_bytes(cache._checksum(named, content[32:]) + content[32:])
    done = run(CALL, FASTCONV_CACHE_DIR=folder)
    assert (done.returncode, done.stdout.strip(), done.stderr.count("CacheWarning: ")) == (0, RIGHT, 1)
    assert run(CALL, FASTCONV_CACHE_DIR=folder).stderr == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
@pytest.mark.parametrize("kind", ["pipe", "device", "terabyte"])
def test_what_never_ends_is_not_read(filled, tmp_path, kind):
    folder = shutil.copytree(filled, tmp_path / "copy")
    (file,) = kernels_in(folder)
    if kind == "terabyte":
        os.truncate(file, 1 << 40)
    else:
        file.unlink()
        os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    done = run(CALL, timeout=60, FASTCONV_CACHE_DIR=folder)
    assert (done.returncode, done.stdout.strip(), done.stderr.count("CacheWarning: ")) == (0, RIGHT, 1)
    assert run(CALL, FASTCONV_CACHE_DIR=folder).stderr == ""


def test_a_relative_folder_stays_where_it_is(tmp_path):
    elsewhere = """
os.chdir("/")
total = np.empty(5)
sum_shares(*Many([(np.arange(10.0).reshape(2, 5), total)]).table, 2)
"""
    code = f"import os\nos.chdir({str(tmp_path)!r})\n" + CALL + elsewhere
    done = run(code, FASTCONV_CACHE_DIR="relative")
    assert (done.stdout.strip(), done.stderr) == (RIGHT, "")
    assert len(kernels_in(tmp_path / "relative")) == 2


def test_a_folder_that_cannot_be_written_is_read(filled, tmp_path):
    forbid = """
    import os, tempfile
    def mkstemp(**where):
        raise OSError(30, "Read-only file system")
    os.access, tempfile.mkstemp = lambda *_: False, mkstemp
    """
    code = dedent(forbid) + COMPILED + CALL + "print(Count.compiled)"
    done = run(code, FASTCONV_CACHE_DIR=filled)
    assert (done.stdout.split(), done.stderr) == ([*RIGHT.split(), "0"], "")
    done = run(code, FASTCONV_CACHE_DIR=tmp_path)
    assert done.stdout.split()[:5] == RIGHT.split()
    assert done.stderr.count("CacheWarning: ") == 1
    assert "(Read-only file system); FASTCONV_CACHE_DIR names another place" in done.stderr


def test_flipped_bits_never_reach_the_processor(filled, tmp_path):
    folder = shutil.copytree(filled, tmp_path / "copy")
    (file,) = kernels_in(folder)
    content = file.read_bytes()
    dice = random.Random(0)
    # One process tries them all: each load is a fresh dispatcher's.
    places = [dice.randrange(len(content) * 8) for _ in range(40)]
    code = f"""
    import warnings
    warnings.simplefilter("ignore")
    from pathlib import Path
    import numpy as np
    from numba import njit
    from fastconv_kernels import bias
    from fastconv_kernels.many import Many
    from fastconv_kernels.cache import KernelCache
    file, content = Path({str(file)!r}), Path({str(file)!r}).read_bytes()
    right = 0
    original = bias.sum_shares.dispatcher
    loaded = original._cache
    total = np.empty(5, np.float32)
    bias.sum_shares(*Many([(np.arange(10, dtype=np.float32).reshape(2, 5), total)]).table, 2)
    signature = original.nopython_signatures[0].args
    from numba.core.registry import cpu_target
    assert loaded.load_overload(signature, cpu_target.target_context) is not None
    for place in {places}:
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        right += loaded.load_overload(signature, cpu_target.target_context) is None
    print(right)
    """
    assert succeed(code, FASTCONV_CACHE_DIR=folder) == "40"


def test_a_changed_helper_in_another_file_is_seen_by_the_next_process(tmp_path):
    kernels = shutil.copytree(ROOT / "kernels", tmp_path / "kernels")
    path = (tmp_path, kernels)
    folder = tmp_path / "cache"
    code = """
    import numpy as np
    from fastconv_kernels.activation import relu_forward
    y = np.empty((1, 1, 16), np.float32)
    relu_forward(np.full((1, 1, 16), -3, np.float32), y)
    print(int(y.max()))
    """
    assert succeed(code, path=path, FASTCONV_CACHE_DIR=folder) == "0"
    tile = kernels / "fastconv_kernels" / "tile.py"
    before = tile.read_text()
    comparison = 'builder.fcmp_ordered("{}", v, zero), zero, v'
    after = before.replace(comparison.format("<="), comparison.format(">="))
    assert after != before
    tile.write_text(after)
    assert succeed(code, path=path, FASTCONV_CACHE_DIR=folder) == "-3"


def test_an_edited_kernel_of_a_user_is_never_the_old_one(tmp_path):
    """Nor is a helper of another file: whatever it says now is what runs."""
    (tmp_path / "mine.py").write_text(
        dedent("""
        from helper import factor
        from fastconv_kernels.crew import prange
        from fastconv_kernels.runtime import kernel

        @kernel()
        def scale(crew, x):
            for i in prange(crew, x.shape[0]):
                x[i] *= factor()
        """)
    )
    code = f"""
    import sys
    sys.path.insert(0, {str(tmp_path)!r})
    sys.dont_write_bytecode = True
    import numpy as np
    from mine import scale
    x = np.ones(2)
    scale(x)
    print(*x)
    """
    for factor in (2, 3):
        helper = f"from numba import njit\n@njit\ndef factor():\n    return {factor}\n"
        (tmp_path / "helper.py").write_text(helper)
        assert succeed(code, FASTCONV_CACHE_DIR=tmp_path / "cache") == f"{factor}.0 {factor}.0"
    assert not list((tmp_path / "cache").rglob("*.kernel"))


def test_no_home_and_no_place_to_write_means_no_cache_and_one_warning(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    done = run(CALL, FASTCONV_CACHE_DIR=None, XDG_CACHE_HOME=blocked, HOME="/nonexistent")
    assert (done.returncode, done.stdout.strip()) == (0, RIGHT)
    assert done.stderr.count("CacheWarning") == 1


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
@pytest.mark.parametrize("bit", [stat.S_IWGRP, stat.S_IWOTH])
def test_a_folder_that_others_can_write_is_not_read(filled, tmp_path, bit):
    folder = shutil.copytree(filled, tmp_path / "copy")
    folder.chmod(0o700 | bit)
    done = run(COMPILED + CALL + "print(Count.compiled > 0)", FASTCONV_CACHE_DIR=folder)
    assert done.stdout.split("\n")[:2] == [RIGHT, "True"]
    assert "can be written by others" in done.stderr
    assert done.stderr.count("CacheWarning") == 1


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_a_folder_of_another_user_is_not_read(filled, tmp_path):
    folder = shutil.copytree(filled, tmp_path / "copy")
    done = run(give_away(folder) + CALL, FASTCONV_CACHE_DIR=folder)
    assert (done.returncode, done.stdout.strip()) == (0, RIGHT)
    assert "can be written by others" in done.stderr


def test_new_folders_are_closed_to_others(filled):
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in filled.iterdir()} == {0}


def test_new_folders_are_closed_where_new_files_are_open_to_the_group(tmp_path):
    """As on most desktops; a folder that was made open would never be read."""
    code = "import os; os.umask(0o002)\n" + CALL
    assert run(code, FASTCONV_CACHE_DIR=tmp_path / "a" / "b").stderr == ""
    places = [tmp_path / "a" / "b", *(tmp_path / "a" / "b").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in places} == {0}


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
@pytest.mark.parametrize("change", ["owner", "group", "all"])
def test_an_inner_folder_of_others_is_not_read(filled, tmp_path, change):
    folder = shutil.copytree(filled, tmp_path / "copy")
    (inner,) = folder.iterdir()
    seen = ""
    if change == "owner":
        seen = give_away(inner)
    else:
        inner.chmod(0o700 | (stat.S_IWGRP if change == "group" else stat.S_IWOTH))
    done = run(seen + COMPILED + CALL + "print(Count.compiled > 0)", FASTCONV_CACHE_DIR=folder)
    assert done.stdout.split("\n")[:2] == [RIGHT, "True"]
    assert "can be written by others" in done.stderr


def test_nothing_in_a_folder_of_others_is_unpickled(filled, tmp_path):
    folder = shutil.copytree(filled, tmp_path / "copy")
    (file,) = kernels_in(folder)
    payload = f"cbuiltins\nopen\n(V{tmp_path / 'mark'}\nVw\ntR.".encode()
    file.write_bytes(cache._checksum(file, payload) + payload)
    folder.chmod(0o777)
    assert run(CALL, FASTCONV_CACHE_DIR=folder).stdout.strip() == RIGHT
    assert not (tmp_path / "mark").exists()
    folder.chmod(0o700)  # the test is worth something: one's own folder is trusted
    assert run(CALL, FASTCONV_CACHE_DIR=folder).stdout.strip() == RIGHT
    assert (tmp_path / "mark").exists()


def test_another_compilers_flags_have_another_folder(tmp_path):
    succeed(CALL, FASTCONV_CACHE_DIR=tmp_path)
    succeed(CALL, FASTCONV_CACHE_DIR=tmp_path, NUMBA_OPT="1")
    succeed(CALL, FASTCONV_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS="1")
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_kernels_of_one_maker_are_told_apart_when_each_was_compiled_by_another_process(tmp_path):
    """In each process they are the first to be compiled, so that Numba's own names for them are the same."""
    path = with_a_kernel_file(
        tmp_path,
        "makers.py",
        """
        from fastconv_kernels.crew import prange
        from fastconv_kernels.runtime import kernel

        def make(k):
            @kernel(parallel=False)
            def raised(number):
                return number + k

            @kernel()
            def add(crew, x):
                for i in prange(crew, x.shape[0]):
                    x[i] = raised(x[i])

            return add
        """,
    )
    code = """
    import numpy as np
    from fastconv_kernels.makers import make
    for k in NUMBERS:
        x = np.zeros(3, np.float32)
        make(k)(x)
        print(*x)
    """
    cache = tmp_path / "cache"
    assert succeed(code.replace("NUMBERS", "[1]"), path=path, FASTCONV_CACHE_DIR=cache) == "1.0 1.0 1.0"
    assert succeed(code.replace("NUMBERS", "[2]"), path=path, FASTCONV_CACHE_DIR=cache) == "2.0 2.0 2.0"
    assert succeed(code.replace("NUMBERS", "[1, 2]"), path=path, FASTCONV_CACHE_DIR=cache) == "1.0 1.0 1.0\n2.0 2.0 2.0"
