"""Show docstrings as they are written: Markdown tables, named tuples."""

from itertools import groupby

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict:
    app.connect("autodoc-process-docstring", _tables, priority=100)
    app.connect("autodoc-skip-member", _skip_alias)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _tables(app, what, name, obj, options, lines: list[str]) -> None:
    """Turn each run of `| a | b |` lines into a table of the page."""
    result = []
    for is_table, group in groupby(lines, lambda line: line.startswith("|")):
        run = list(group)
        result += _list_table(run) if is_table else run
    lines[:] = result


def _skip_alias(app, what, name, obj, skip, options) -> bool | None:
    """A named tuple's class docstring describes its fields already."""
    is_alias = (obj.__doc__ or "").startswith("Alias for field number")
    return True if is_alias else None


def _list_table(markdown: list[str]) -> list[str]:
    table = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in markdown[:1] + markdown[2:]:  # without the ruler
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        table += [f"   * - {cells[0]}", *(f"     - {c}" for c in cells[1:])]
    return [*table, ""]
