"""Running a piece of Python in a process of its own: for what may end a process, or must start in a fresh one."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(code, *, timeout=300, path=None, **environment):
    """Run ``code`` and return the finished process; an environment variable given as None is removed."""
    variables = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, path or (ROOT, ROOT / "kernels"))))
    for name, value in environment.items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = str(value)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, check=False)


def succeed(code, **options):
    """Run ``code`` and return what it printed; fails with its errors if it ended badly."""
    done = run(code, **options)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()
