"""Where a book's sources, executed chapters and pages live."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml


class BuildError(Exception):
    """The book can't be built; the message says where and what to do."""

    def __init__(self, message: str) -> None:
        # IPython and Sphinx colour their lines even for a log file.
        super().__init__(re.sub(r"\x1b\[[0-9;]*m", "", message))


@dataclass(frozen=True)
class Book:
    """A folder with `_config.yml`, `book/` and, once built, `_build/`."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "book"

    @property
    def config(self) -> Path:
        return self.root / "_config.yml"

    @property
    def executed(self) -> Path:
        """Executed chapters, named by the key of what they depend on."""
        return self.root / "_build" / "executed"

    @property
    def staged(self) -> Path:
        """The sources with outputs, as Jupyter Book sees them."""
        return self.root / "_build" / "src"

    @property
    def side(self) -> Path:
        """Where a new site is built and checked before it is published."""
        return self.root / "_build" / "side"

    @property
    def site(self) -> Path:
        """The last good site."""
        return self.root / "_build" / "html"

    def pages(self) -> list[Path]:
        """Every page of the table of contents, in reading order."""
        toc = yaml.safe_load((self.source / "_toc.yml").read_text())
        return [self._page(name) for name in _names(toc)]

    def chapters(self) -> list[Path]:
        """The pages that are notebooks."""
        return [page for page in self.pages() if page.suffix == ".ipynb"]

    def name(self, page: Path) -> str:
        """A page's path inside book/, as messages show it."""
        return page.relative_to(self.source).as_posix()

    def _page(self, name: str) -> Path:
        for suffix in (".ipynb", ".md"):
            page = self.source / f"{name}{suffix}"
            if page.exists():
                return page
        raise BuildError(
            f"book/_toc.yml names {name}, but no such page exists"
        )


def _names(entry: dict) -> Iterator[str]:
    for kind in ("root", "file"):
        if kind in entry:
            yield entry[kind]
    for kind in ("parts", "chapters", "sections"):
        for child in entry.get(kind, []):
            yield from _names(child)


BOOK = Book(Path(__file__).parents[2])
