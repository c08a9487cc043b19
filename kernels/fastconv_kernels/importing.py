"""Imports that a fork must not interrupt.

Python keeps a lock for each module that is being imported, and does not renew it in a forked child: there, whoever
imports what another thread was importing waits for ever.  Layers and kernels are imported when they are first used, so
the first step of any thread is such a time.
"""

import sys
import threading


def others_import():
    """Return whether another Python thread is importing a module."""
    me = threading.get_ident()
    # No public function tells; without this table, forks are as Python leaves them.
    table = getattr(sys.modules["_frozen_importlib"], "_module_locks", {})
    owners = (getattr(reference(), "owner", None) for reference in list(table.values()))
    return any(owner not in (None, me) for owner in owners)
