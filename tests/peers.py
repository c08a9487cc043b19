"""Packages that tests compare with.  CI has them; elsewhere, their tests are skipped where they are not installed."""

import os
from importlib import import_module

import pytest


def peer(name):
    """Import a package that CI must have."""
    return import_module(name) if os.environ.get("CI") else pytest.importorskip(name)
