"""Refuse to build the plain sources: their pages would have no outputs."""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def setup(app: Sphinx) -> dict:
    if not (Path(app.srcdir) / ".executed").exists():
        raise ExtensionError(
            f"{app.srcdir} holds sources without outputs: run make book"
        )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
