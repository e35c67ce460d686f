"""Does every chapter keep the contract that readers and Colab rely on?"""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import ipynb
from ipynb import code_cells, source, tags
from paths import Book
from setup_cell import TAGS, setup_source

MAX_LINES, MAX_COLUMNS, MAX_MEDIAN_LINES = 40, 79, 12

# MyST that Colab and JupyterLab would show as raw text.
_DIRECTIVE = re.compile(
    r"^\s*(?:`{3,}|~{3,}|:{3,})\s*\{[\w:.-]+\}"  # ```{note}
    r"|^\s*:{3,}\s*$"  # ::: that closes one
    r"|(?<!`)\{[\w:.+-]+\}`[^`]+`"  # {ref}`target`
    r"|^\([\w:.-]+\)=\s*$",  # (target)=
    re.MULTILINE,
)


def check(book: Book) -> list[str]:
    """Problems of the sources, each with its page and cell."""
    listed = set(book.pages())
    found = [*book.source.rglob("*.md"), *book.source.rglob("*.ipynb")]
    orphans = [
        f"{book.name(page)}: not in book/_toc.yml"
        for page in sorted(found)
        if page not in listed and ".ipynb_checkpoints" not in page.parts
    ]
    setup = setup_source(book)
    return orphans + [
        f"{book.name(chapter)}: {problem}"
        for chapter in book.chapters()
        for problem in _contract(chapter, setup)
    ]


def check_outputs(book: Book) -> list[str]:
    """Cells whose picture has no text for readers who can't see it."""
    return [
        f"{book.name(chapter)}: {_where(cell)}: figure without alt text; put"
        ' {"mystnb": {"image": {"alt": "..."}}} into the cell\'s metadata'
        for chapter in book.chapters()
        for cell in code_cells(ipynb.read(book.staged / book.name(chapter)))
        if _shows_image(cell) and not _alt(cell)
    ]


def _contract(chapter: Path, setup: str) -> Iterator[str]:
    content = ipynb.read(chapter)
    cells, code = content["cells"], code_cells(content)
    if not code or source(code[0]) != setup or tags(code[0]) != TAGS:
        yield (
            "the first code cell isn't the setup cell; run"
            " python book/_tools/setup_cell.py"
        )
    parameters = sum("parameters" in tags(cell) for cell in code)
    if parameters != 1:
        yield f"{parameters} cells are tagged parameters; one is needed"
    if "footer" not in tags(cells[-1]):
        yield "the last cell isn't tagged footer; end with show.footer()"
    for cell in code:
        yield from _code_problems(cell)
    lines = median(source(cell).count("\n") + 1 for cell in code)
    if lines > MAX_MEDIAN_LINES:
        yield (
            f"half of the code cells have {lines:g} lines or more; the"
            f" median may be {MAX_MEDIAN_LINES}"
        )
    for cell in cells:
        if cell["cell_type"] == "markdown":
            for match in _DIRECTIVE.finditer(source(cell)):
                yield (
                    f"{_where(cell)}: {match[0].strip()!r} is MyST, which"
                    " Colab shows raw; write plain Markdown"
                )


def _code_problems(cell: dict) -> Iterator[str]:
    lines = source(cell).splitlines()
    if cell["outputs"] or cell["execution_count"] is not None:
        yield f"{_where(cell)}: has outputs; run nbstripout --keep-id"
    if len(lines) > MAX_LINES:
        yield f"{_where(cell)}: {len(lines)} lines; at most {MAX_LINES}"
    for line in lines:
        if len(line) > MAX_COLUMNS:
            yield (
                f"{_where(cell)}: {len(line)} columns in {line.strip()!r};"
                f" at most {MAX_COLUMNS}"
            )


def _shows_image(cell: dict) -> bool:
    return any(
        mime.startswith("image/")
        for output in cell.get("outputs", [])
        for mime in output.get("data", {})
    )


def _alt(cell: dict) -> str:
    image = cell["metadata"].get("mystnb", {}).get("image", {})
    return image.get("alt", "").strip()


def _where(cell: dict) -> str:
    """A cell by its first line, which an author can search for."""
    first = source(cell).strip().partition("\n")[0]
    return f"cell {first[:50]!r}"
