"""Which source a number was measured with."""

import hashlib
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def source_hash() -> str:
    """Hash of every file of the package, data included: 12 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(PACKAGE).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str:
    """The checkout's commit (`+` if changed), or that there is none."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty=+"]
    # A wheel inside somebody else's repository must not report their commit.
    if not (PACKAGE.parent / ".git").exists():
        return "installed package"
    try:
        result = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True
        )
    except FileNotFoundError:
        return "git not found"
    return result.stdout.strip() or "no commit yet"
