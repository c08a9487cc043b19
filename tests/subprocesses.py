"""Running a piece of Python in a process of its own: for what may end a process, or must start in a fresh one."""

import os
import re
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


def passed_and_skipped(names, options, **environment):
    """Run tests/test_NAME.py for all names in one process; return how many passed and how many were skipped."""
    files = [f"tests/test_{name}.py" for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *options, *files],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    return tuple(int((re.search(rf"(\d+) {word}", done.stdout) or [0, 0])[1]) for word in ("passed", "skipped"))
