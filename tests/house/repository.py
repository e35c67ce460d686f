"""What the tests of the house look at: the working tree as git sees it."""

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def committed(pattern="*"):
    """Files that git has or would add, relative to the root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard", "--", pattern],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    names = sorted(set(listing.stdout.split("\0")) - {""})
    return [Path(name) for name in names if (ROOT / name).is_file()]


def floors(requirements):
    """Canonical name -> version specifier, without this package itself."""
    parsed = map(Requirement, requirements)
    return {
        canonicalize_name(r.name): r.specifier
        for r in parsed
        if r.name != PROJECT["name"]
    }


BASE = floors(PROJECT["dependencies"])
EXTRAS = {
    name: floors(requirements)
    for name, requirements in PROJECT["optional-dependencies"].items()
}


def locked(path):
    """Canonical name -> the versions that a lock file has for it."""
    versions = {}
    for name, version in re.findall(
        r"^([\w.-]+)==([^\s;]+)", (ROOT / path).read_text(), re.MULTILINE
    ):
        versions.setdefault(canonicalize_name(name), []).append(version)
    return versions
