"""Floors, locks and statements of a version agree."""

import re

import pytest
import yaml
from packaging.requirements import Requirement
from repository import BASE, EXTRAS, PROJECT, ROOT, floors, locked

import hagvig_lib


def test_conda_has_the_same_floors():
    """Triton comes by pip, as the library's own dependency."""
    here = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = content["dependencies"]
    stated = {here.get(n, n): floor for n, floor in floors(conda).items()}
    assert stated.pop("python") == PROJECT["requires-python"]
    assert stated.pop("pip") == ""
    expected = BASE | EXTRAS["train"]
    del expected["triton"]
    assert stated == expected
    assert pip == {"pip": ["-e .[test]"]}


@pytest.mark.parametrize("extra", ["base", *EXTRAS])
def test_the_lock_satisfies_the_floors(extra):
    versions = locked("requirements.lock")
    for name, specifier in (EXTRAS | {"base": BASE})[extra].items():
        assert versions[name], name
        assert all(map(specifier.contains, versions[name])), name


def test_the_base_floors_are_what_the_colab_simulation_runs():
    versions = locked("book/_tools/colab.lock")
    for name, specifier in BASE.items():
        (floor,) = specifier
        (version,) = versions[name]
        assert f"{version}.".startswith(f"{floor.version}."), name


def test_the_colab_lock_has_the_pins_it_was_made_from():
    versions = locked("book/_tools/colab.lock")
    text = (ROOT / "book/_tools/colab.in").read_text()
    pins = [line.split("#")[0] for line in text.splitlines()]
    for pin in map(Requirement, filter(None, pins)):
        assert [f"=={v}" for v in versions[pin.name]] == [str(pin.specifier)]


def test_every_statement_of_the_version_agrees():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == hagvig_lib.__version__ == citation["version"]
    headings = re.findall(
        r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert headings[0] in ("Unreleased", PROJECT["version"])


def test_pre_commit_runs_the_locked_tools_and_no_others():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert [hook["entry"] for hook in hooks] == ["make lint"]
    versions = locked("requirements.lock")
    for tool in ("ruff", "codespell", "nbstripout", "pyright"):
        assert len(versions[tool]) == 1, tool
