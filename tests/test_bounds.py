"""The lower bounds of pyproject.toml are what `make lowest` really runs on."""

from __future__ import annotations

import os
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = [
    requirement
    for text in (*PROJECT["dependencies"], *(one for name, extra in PROJECT["optional-dependencies"].items() if name != "dev" for one in extra))
    if (requirement := Requirement(text)).name != PROJECT["name"]
]  # fmt: skip


def lowest(requirement: Requirement) -> Version:
    return min(Version(one.version) for one in requirement.specifier if one.operator == ">=")


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_a_bound_is_given_and_allows_what_is_installed(requirement: Requirement) -> None:
    assert lowest(requirement) <= Version(version(requirement.name))
    assert requirement.specifier.contains(version(requirement.name))


@pytest.mark.skipif("REFRASE_LOWEST" not in os.environ, reason="`make lowest` runs this")
@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_the_lowest_is_installed(requirement: Requirement) -> None:
    assert Version(version(requirement.name)) == lowest(requirement)
