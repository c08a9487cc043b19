"""Ranges of dependencies: tests/lowest.txt is their lower ends, what is installed lies within them."""

import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from subprocesses import ROOT

from fastconv.checkup.machine import _within

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNNING = [Requirement(line) for line in PROJECT["dependencies"]]
OPTIONAL = {extra: [Requirement(line) for line in lines] for extra, lines in PROJECT["optional-dependencies"].items()}
TESTING = [requirement for extra in ("plot", "images", "test") for requirement in OPTIONAL[extra]]
# What reads the code and runs none of it, and what only an oldest version of another package asks for.
TOOLS, OF_OTHERS = {"ruff", "pyright"}, {"pyparsing"}


def lowest():
    lines = (ROOT / "tests/lowest.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}


def ends(requirement, operator):
    return [bound.version for bound in requirement.specifier if bound.operator == operator]


def padded(text):
    return (*map(int, text.split(".")), 0, 0)[:3]


@pytest.mark.parametrize("requirement", [*RUNNING, *TESTING], ids=str)
def test_a_range_begins_where_the_lowest_versions_are(requirement):
    (least,) = ends(requirement, ">=")
    if requirement.name in TOOLS:
        assert requirement.name not in lowest()
    else:
        assert padded(lowest()[requirement.name]) == padded(least)


def test_the_lowest_versions_are_of_what_is_asked_for():
    assert set(lowest()) - OF_OTHERS == {requirement.name for requirement in [*RUNNING, *TESTING]} - TOOLS


@pytest.mark.parametrize("requirement", RUNNING, ids=str)
def test_what_is_installed_is_in_its_range(requirement):
    if requirement.marker is None or requirement.marker.evaluate():
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)


def test_what_may_break_with_a_new_version_has_an_upper_end():
    assert {requirement.name for requirement in RUNNING if not ends(requirement, "<")} == {"tbb"}


@pytest.mark.parametrize("name", ["numpy", "numba", "pandas", "safetensors"])
def test_the_doctor_understands_our_ranges(name):
    (requirement,) = [str(each) for each in RUNNING if each.name == name]
    assert _within({name: version(name)}, requirement)
    assert not _within({name: "0.0.1"}, requirement)
    assert not _within({name: "99.0"}, requirement)
