"""The library stays short enough to be read beside the book."""

import ast
import io
import tokenize
from collections import Counter

from repository import ROOT, committed

# Code lines: the budget of each part, then of all. Exercises and studies
# are counted apart: one reads them with their chapter, not to use the rest.
LIMITS = {
    ("gates", "routing"): 630,
    ("gla",): 1450,
    ("models",): 950,
    ("data",): 800,
    ("training",): 600,
    ("measure", "show"): 600,
}
APART = {"exercises", "studies"}
TOTAL, FILE_LINES, KERNEL_FILE_LINES = 5000, 250, 400


def code_lines(source):
    """Number of lines with code: no blanks, comments or docstrings."""
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node):
            text = node.body[0]
            lines -= set(range(text.lineno, text.end_lineno + 1))
    return len(lines)


def test_code_lines_leaves_out_docstrings_comments_and_blanks():
    module = (
        '"""Doc\n\nstring."""\n\n# why\nx = (\n    """\n    1"""\n)  # y\n'
    )
    function = 'def f():\n    """Doc."""\n\n    return 1\n'
    assert code_lines(module) == 4
    assert code_lines(function) == 2


def test_each_part_of_the_library_is_within_its_budget(record_property):
    sizes = Counter()
    for path in committed("hagvig_lib/*.py"):
        folder = path.parts[2 if "studies" in path.parts else 1]
        part = folder.removesuffix(".py")
        sizes[part] += code_lines((ROOT / path).read_text())
    table = [
        (" + ".join(parts), sum(sizes[part] for part in parts), limit)
        for parts, limit in LIMITS.items()
    ]
    total = sum(n for part, n in sizes.items() if part not in APART)
    table.append(("all of these", total, TOTAL))
    rows = [f"{name:20} {n:5} of {limit}" for name, n, limit in table]
    rows += [f"{part:20} {sizes[part]:5}" for part in sorted(APART)]
    record_property("code lines of hagvig_lib", "\n".join(rows))
    homes = {"__init__"}.union(APART, *LIMITS)
    assert sizes.keys() <= homes, "a part of the library without a budget"
    assert not [row for row in table if row[1] > row[2]]


def test_files_are_short():
    long = {}
    for folder in ("hagvig_lib", "data_scripts", "book"):
        for path in committed(f"{folder}/*.py"):
            kernel = path.is_relative_to("hagvig_lib/gla/triton")
            limit = KERNEL_FILE_LINES if kernel else FILE_LINES
            lines = len((ROOT / path).read_text().splitlines())
            if lines > limit:
                long[str(path)] = lines
    assert not long
