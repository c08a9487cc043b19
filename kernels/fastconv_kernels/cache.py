"""Compiled kernels on disk: keyed by every source they were made from, checked before use, never fatal.

Numba's own cache looks at the time stamp of one file, so it serves stale machine code when a helper in another file
changes (numba#1833), fails for ever on a truncated file (numba#10434), and runs a file with a flipped bit.  Here

* the folder's name is a hash of all kernel sources, the compiler flags and the versions of Python, Numba and llvmlite;
* a file's name is a hash of the function, the constants and functions in its closure, its signature and the target CPU;
* a file begins with the SHA-256 of its place and of the rest; what does not match is compiled again, with one warning;
* the folder must belong to the user and be closed to others, because the files are pickles;
* kernels of other packages, whose sources are not in that hash, are compiled in every process.
"""

import hashlib
import os
import stat
import sys
import tempfile
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import compiler, serialize
from numba.core.caching import _Cache
from numba.core.runtime import rtsys

_DIGEST = hashlib.sha256().digest_size
_LARGEST = 1 << 26
"""Bytes that are read of a file; the largest kernel has a 200th of them."""


class CacheWarning(RuntimeWarning):
    """Kernels could not be read from, or written to, the cache on disk: they are compiled again."""


_warned = False


def _warn(message):
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"fastconv kernel cache: {message}", CacheWarning, stacklevel=3)


@cache
def source_hash():
    """Hex digest of all kernel sources and of everything else that decides the machine code of a signature."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = sys.version, numba.__version__, llvmlite.__version__
    flags = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")]
    # Where code runs and how many threads run it change no instruction.
    idle = ("NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_CACHE")
    digest.update(repr((versions, [flag for flag in flags if not flag.startswith(idle)])).encode())
    return digest.hexdigest()[:24]


@cache
def folder():
    """Return the folder of this version's compiled kernels, made if need be; None where there is no safe place."""
    named = os.environ.get("FASTCONV_CACHE_DIR")
    try:
        if named:
            top = Path(named)
        elif base := os.environ.get("XDG_CACHE_HOME"):
            top = Path(base) / "fastconv"
        else:
            top = Path.home() / ".cache" / "fastconv"
        top = top.absolute()  # the process may go elsewhere
        place = top / source_hash()
        top.mkdir(parents=True, exist_ok=True, mode=0o700)  # a umask of 002 would leave parents open to the group
        place.mkdir(exist_ok=True, mode=0o700)
        if hasattr(os, "geteuid"):
            for part in (top, place):
                found = part.stat()
                if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    _warn(f"{part} can be written by others, so nothing is read from it; set FASTCONV_CACHE_DIR")
                    return None
    except (OSError, RuntimeError) as error:  # RuntimeError: Path.home() without a home
        _warn(f"no folder for it ({error}); set FASTCONV_CACHE_DIR to a folder that can be written")
        return None
    return place


def _checksum(path, payload):
    """Digest of what a file holds, and of where it belongs: a whole file under another kernel's name is damage too."""
    digest = hashlib.sha256(f"{path.parent.name}/{path.name}".encode())
    digest.update(payload)
    return digest.digest()


def _content(path):
    """Read a file; raises OSError if it is none: a pipe or a device might never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "it is not a file")
    if found.st_size > _LARGEST:
        raise OSError(0, f"it has {found.st_size:,} bytes")
    return path.read_bytes()


@cache
def _processor(codegen):
    """Name the processor that code is compiled for; LLVM takes 0.1 ms to say."""
    return codegen.magic_tuple()


def _identity(function):
    """Name a function with what its closure holds: integers as they are, other functions by their own identity."""
    held = []
    for cell in function.__closure__ or ():
        content = cell.cell_contents
        content = getattr(content, "py_func", content)
        held.append(_identity(content) if callable(content) else repr(content))
    return f"{function.__module__}.{function.__qualname__}({', '.join(held)})"


def symbol(function):
    """Name for its machine code that no other function has: kernels made by one function differ in their closures."""
    return f"{function.__qualname__}_{hashlib.sha256(_identity(function).encode()).hexdigest()[:16]}"


def _to_be_called_only(state):
    """Replace the LLVM code in a compiled function's state, which others could inline, by its entry point's name.

    Reading LLVM code takes longer than loading machine code, 2 ms a kernel.
    """
    (name, kind, (machine_code, _)), described, *rest = state
    module = ir.Module(name)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), []), described.llvm_cpython_wrapper_name)
    ir.IRBuilder(entry.append_basic_block()).ret_void()
    return (name, kind, (machine_code, llvm.parse_assembly(str(module)).as_bitcode())), described, *rest


class KernelCache(_Cache):
    """What a Numba dispatcher asks for compiled code, and gives it to.

    Parameters
    ----------
    function : function
        What the compiled code follows from.
    dispatcher_flags : str
        How it is compiled.
    inlined : bool
        Whether other kernels may inline it, or Python alone calls it.
    """

    def __init__(self, function, dispatcher_flags, inlined):
        self._function = function
        self._flags = dispatcher_flags
        self._inlined = inlined
        self._enabled = True

    @property
    def cache_path(self):
        """Return the folder's name."""
        return str(folder())

    def enable(self):
        """Read and write files, which is the beginning."""
        self._enabled = True

    def disable(self):
        """Neither read nor write files."""
        self._enabled = False

    def flush(self):
        """Nothing to forget: entries are found by content, never by an index."""

    def _path(self, signature, codegen):
        place = folder()
        if place is None or not self._enabled:
            return None
        key = repr((_identity(self._function), self._flags, str(signature), _processor(codegen)))
        return place / f"{self._function.__name__}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.kernel"

    def load_overload(self, sig, target_context):
        """Return the compiled code for a signature, or None if it has to be compiled."""
        # Numba's own cache calls target_context.refresh(), which makes ready to compile: 0.1 s of a start that may
        # compile nothing.  Code that is compiled already needs the functions of Numba's runtime alone.
        rtsys.initialize(target_context)
        path = self._path(sig, target_context.codegen())
        if path is None:
            return None
        try:
            data = _content(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            _warn(f"{path} cannot be read ({error.strerror}); compiling again")
            return None
        if _checksum(path, data[_DIGEST:]) != data[:_DIGEST]:
            _warn(f"{path} is damaged; compiling again")
            return None
        try:
            return compiler.CompileResult._rebuild(target_context, *serialize.loads(data[_DIGEST:]))
        except Exception as error:  # whatever a stranger's or another version's pickle may raise: compiling is the cure
            _warn(f"{path} cannot be used ({type(error).__name__}); compiling again")
            return None

    def save_overload(self, sig, data):
        """Keep what was compiled for a signature, if there is a place for it."""
        path = self._path(sig, data.codegen)
        if path is None or data.library.has_dynamic_globals or data.lifted:
            return
        state = data._reduce()
        payload = serialize.dumps(state if self._inlined else _to_be_called_only(state))
        temporary = None
        try:
            # Several processes may compile the same kernel: each writes its own file, the last rename wins.
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
            with os.fdopen(handle, "wb") as file:
                file.write(_checksum(path, payload) + payload)
            os.replace(temporary, path)
        except OSError as error:
            _warn(f"{path} cannot be written ({error.strerror}); FASTCONV_CACHE_DIR names another place for it")
            if temporary is not None:
                with suppress(OSError):
                    os.unlink(temporary)
