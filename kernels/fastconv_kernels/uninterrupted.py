"""Compiling where Ctrl-C does not reach.

Python raises KeyboardInterrupt between any two instructions of the main thread, and what PyThreadState_SetAsyncExc is
given in any other.  In the middle of compiling, or of reading compiled code, that leaves locks of Numba and llvmlite
held, so that every other thread waits for ever, and their tables half written.  So another thread does it, which nobody
knows, and whoever waits for it is free to be interrupted.
"""

import sys
import threading
from functools import wraps

from numba.core.compiler_lock import global_compiler_lock


def uninterrupted(work):
    """Return a function that does the same in another thread, and leaves that to itself if it is interrupted."""

    @wraps(work)
    def elsewhere(*arguments, **named):
        if _is_needed_here():
            return work(*arguments, **named)
        result, error = None, None

        def run():
            nonlocal result, error
            try:
                result = work(*arguments, **named)
            except BaseException as raised:  # to be raised where it was asked for
                error = raised

        thread = threading.Thread(target=run, name="fastconv compiles")
        try:
            thread.start()
        except RuntimeError:  # Python is shutting down
            return work(*arguments, **named)
        thread.join()
        if error is not None:
            raise error
        return result

    return elsewhere


def _is_needed_here():
    """Whether this thread holds a lock that another would wait for: the compiler's, or that of a module it imports."""
    if global_compiler_lock.is_locked():
        return True
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
