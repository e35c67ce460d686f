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


# Chapters that import it must not show its pictures as if they were real.
_SYNTHETIC = re.compile(r"\bsynthetic_(?:colonoscopy|scene)\b")


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
    """Figures without what readers need, or with what nobody asked for."""
    problems = []
    for chapter in book.chapters():
        cells = code_cells(ipynb.read(book.staged / book.name(chapter)))
        drawn = False  # from the import on
        for cell in cells:
            drawn = drawn or bool(_SYNTHETIC.search(source(cell)))
            problems += [
                f"{book.name(chapter)}: {_where(cell)}: {problem}"
                for problem in _figure_problems(cell, drawn)
            ]
    return problems


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


def _figure_problems(cell: dict, synthetic: bool) -> Iterator[str]:
    shown = [output.get("data", {}) for output in cell["outputs"]]
    image = any(mime.startswith("image/") for data in shown for mime in data)
    slider = any('class="figplayer"' in _html(data) for data in shown)
    about = cell["metadata"].get("mystnb", {})
    if image and not about.get("image", {}).get("alt", "").strip():
        yield (
            "figure without alt text; put"
            ' {"mystnb": {"image": {"alt": "..."}}} into the cell\'s metadata'
        )
    if not (image or slider):
        return
    # A slider has caption and alt text in its source.
    if synthetic and "SYNTHETIC" not in source(cell) + str(about):
        yield (
            "figure where the synthetic colonoscopy is at hand, but no"
            " SYNTHETIC in its title, caption or alt text"
        )
    if {"text/plain"} in map(set, shown):
        yield (
            "text of the last value stands beside the figure; end the cell"
            " with a semicolon"
        )


def _html(data: dict) -> str:
    return "".join(data.get("text/html", ""))


def _where(cell: dict) -> str:
    """A cell by its first line, which an author can search for."""
    first = source(cell).strip().partition("\n")[0]
    return f"cell {first[:50]!r}"
