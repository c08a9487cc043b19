"""Permissions that hold for root as for anybody, and folders of somebody else: for tests that run as either."""

import ctypes
import os
from contextlib import contextmanager

import pytest

SUPERUSER = hasattr(os, "geteuid") and os.geteuid() == 0
_VERSION = 0x20080522  # of Linux' capget and capset: two words each of effective, permitted and inheritable rights
_OVERLOOKS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_STRANGER = 12345


@contextmanager
def binding():
    """Let permissions bind this thread: root, who may overlook them, is no more than the owner of its files here."""
    if os.name != "posix":
        pytest.skip("no permission bits here")
    if not SUPERUSER:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    _check(libc.capget(header, held))
    fewer = type(held)(*held)
    fewer[0] &= ~_OVERLOOKS
    _check(libc.capset(header, fewer))
    try:
        yield
    finally:
        _check(libc.capset(header, held))


def _check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "root's rights cannot be taken away for a test")


def give_away(folder):
    """Make a folder that of another user; return the code by which a process sees that.

    Root gives it away; anybody else, who may not, has the process take itself for another user.
    """
    if SUPERUSER:
        os.chown(folder, _STRANGER, _STRANGER)
        return ""
    return f"import os; os.geteuid = lambda: {_STRANGER}\n"
