"""The register of discrepancies is complete, and chapters cite what is in it.

Its fields are explained at the head of book/discrepancies.yml.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import ipynb
import yaml
from paths import Book, BuildError

REGISTER = "discrepancies.yml"  # inside book/
PARTS = {  # and their headings on the page
    "gates": "Gates",
    "routing": "Routing",
    "models": "Networks",
    "data": "Data",
    "training": "Training",
    "metrics": "Metrics",
    "vig": "ViG",
}
FIELDS = (
    *("id", "title", "part", "paper", "code", "where", "ours"),
    *("switch", "test", "effect"),
)
MAY_BE_NULL = ("paper", "switch", "test", "effect")

_PINNED = re.compile(
    r"https://github\.com/[\w.-]+/[\w.-]+/blob/[0-9a-f]{7,40}/[^\s#]+(#L.+)?"
)
_CITED = re.compile(r"\*\*The code differs \((.*?)\)")


def entries(book: Book, name: str = REGISTER) -> list[dict]:
    """The entries of a register; none if the book has no such file.

    Raises:
        BuildError: it is no YAML list of mappings.
    """
    path = book.source / name
    if not path.exists():
        return []
    try:
        found = yaml.safe_load(path.read_text()) or []
    except yaml.YAMLError as error:
        raise BuildError(f"book/{name} is no YAML: {error}") from error
    if not isinstance(found, list) or not all(
        isinstance(entry, dict) for entry in found
    ):
        raise BuildError(f"book/{name} is no list of entries")
    return found


def check(book: Book) -> list[str]:
    """Problems of entries, each with its id and field, and of citations."""
    register = entries(book)
    ids = [str(entry.get("id")) for entry in register]
    problems = [
        f"book/{REGISTER}: {name} stands {count} times; ids are unique"
        for name, count in Counter(ids).items()
        if count > 1
    ]
    for name, entry in zip(ids, register, strict=True):
        problems += [
            f"book/{REGISTER}: {name}: {problem}"
            for problem in _entry_problems(book, entry)
        ]
    return problems + [
        f"{book.name(page)}: cites {cited}, which is not in book/{REGISTER}"
        for page in book.pages()
        for several in _CITED.findall(_text(page))
        for cited in several.split(", ")
        if cited not in ids
    ]


def has_test(book: Book, test: str) -> bool:
    """Whether `tests/.../test_x.py::test_y`, a pytest id, exists."""
    path, _, name = test.partition("::")
    file = book.root / path
    if not (path.startswith("tests/") and file.is_file()):
        return False
    tree = ast.parse(file.read_text())
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    return name.startswith("test_") and name.partition("[")[0] in names


def _entry_problems(book: Book, entry: dict) -> Iterator[str]:
    if missing := [field for field in FIELDS if field not in entry]:
        yield f"has no {', '.join(missing)}"
        return
    if unknown := sorted(entry.keys() - set(FIELDS)):
        yield f"{', '.join(unknown)}: unknown; fields are {', '.join(FIELDS)}"
    for field in FIELDS:
        if not entry[field] and field not in MAY_BE_NULL:
            yield f"{field} is empty"
    if not re.fullmatch(r"[A-Z]\d+", str(entry["id"])):
        yield "id is a capital letter and a number, as G1"
    if entry["part"] not in PARTS:
        yield f"part {entry['part']!r} is none of {', '.join(PARTS)}"
    links = entry["where"] or []
    for link in [links] if isinstance(links, str) else links:
        if not _PINNED.fullmatch(link):
            yield (
                f"where {link!r} isn't pinned; take"
                " https://github.com/<owner>/<repository>/blob/<commit>/"
                "<path>#L<line>"
            )
    if entry["test"] and not has_test(book, entry["test"]):
        yield f"test {entry['test']!r} does not exist"
    if entry["switch"]:
        for field in ("test", "effect"):
            if not entry[field]:
                yield f"{field} is null, but its switch can be run"
    if entry["effect"]:
        yield from _effect_problems(entry["effect"])


def _effect_problems(effect: object) -> Iterator[str]:
    fields = {"value", "what", "date"}
    if not isinstance(effect, dict) or effect.keys() != fields:
        yield f"effect has the fields {', '.join(sorted(fields))}"
        return
    if not isinstance(effect["value"], int | float):
        yield f"effect value {effect['value']!r} is no number"
    if not isinstance(effect["date"], date):
        yield f"effect date {effect['date']!r} is no date as 2026-11-22"
    if not effect["what"]:
        yield "effect what is empty: say what the value is"


def _text(page: Path) -> str:
    if page.suffix == ".md":
        return page.read_text()
    return "\n".join(ipynb.source(c) for c in ipynb.read(page)["cells"])
