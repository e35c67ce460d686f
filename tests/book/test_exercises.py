"""Checkers pass the book's own solutions and refuse stubs and mistakes."""

import copy
import json
import math
import re
from pathlib import Path

import pytest
import torch
from mistakes import MISTAKES
from torch import nn

from hagvig_lib.exercises import check, verdict

BOOK = Path(__file__).parents[2] / "book"
CALL = re.compile(r"check\((\d+), (\d+), (\w+)\)")
SOLUTION = re.compile(
    r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL
)


def exercises():
    """(chapter, number, name, stub, solution) of every exercise."""
    for path in sorted(BOOK.glob("*/[0-9]*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        sources = ["".join(cell["source"]) for cell in cells]
        for index, stub in enumerate(sources):
            if "exercise" not in cells[index]["metadata"].get("tags", []):
                continue
            chapter, number, name = CALL.search(stub).groups()
            solution = SOLUTION.search(sources[index + 1])[1]
            yield int(chapter), int(number), name, stub, solution


EXERCISES = list(exercises())
IDS = [f"{chapter}.{number}" for chapter, number, *_ in EXERCISES]


def answer(source, name):
    """The reader's object, from code that sees a chapter's imports."""
    scope = {"copy": copy, "math": math, "nn": nn, "torch": torch}
    if "@triton.jit" in source:
        triton = pytest.importorskip("triton")
        if not triton.knobs.runtime.interpret:
            pytest.skip("kernels are checked in Triton's interpreter")
        scope |= {"triton": triton, "tl": triton.language}
    exec(CALL.sub("", source), scope)
    return scope[name]


@pytest.mark.parametrize(
    ("chapter", "number", "name", "stub", "solution"), EXERCISES, ids=IDS
)
def test_solution_passes_and_stub_fails(chapter, number, name, stub, solution):
    assert verdict(chapter, number, answer(solution, name)) is None
    assert verdict(chapter, number, answer(stub, name))


@pytest.mark.parametrize(
    ("chapter", "number", "name", "mistake"),
    [
        pytest.param(chapter, number, name, mistake, id=f"{key}-{index}")
        for (chapter, number, name, *_), key in zip(
            EXERCISES, IDS, strict=True
        )
        for index, mistake in enumerate(MISTAKES[chapter, number])
    ],
)
def test_typical_mistake_gets_its_hint(chapter, number, name, mistake):
    # "not yet" is a hint; "raised" would blame the reader for a crash.
    assert verdict(chapter, number, answer(mistake, name)).startswith(
        "not yet"
    )


def test_every_chapter_has_exercises_and_every_exercise_mistakes():
    chapters = {int(path.name[:2]) for path in BOOK.glob("*/[0-9]*.ipynb")}
    counts = {c: sum(e[0] == c for e in EXERCISES) for c in chapters}
    assert all(2 <= count <= 4 for count in counts.values()), counts
    assert {(c, n) for c, n, *_ in EXERCISES} == set(MISTAKES)
    assert all(len(sources) >= 2 for sources in MISTAKES.values())


def test_check_prints_the_verdict_and_never_raises(capsys):
    check(1, 3, lambda tolerance: math.log((1 - tolerance) / tolerance))
    check(1, 3, lambda tolerance: 14.0)
    check(1, 3, lambda: "takes no argument")
    printed = capsys.readouterr().out
    right, hint, crash = re.findall(r"^[✓✗].*", printed, re.MULTILINE)
    assert right == "✓ 1.3 is right."
    assert hint.startswith("✗ 1.3 not yet: for tolerance 0.5")
    assert crash.startswith("✗ 1.3 raised TypeError")


@pytest.mark.parametrize(
    ("chapter", "number", "message"),
    [(99, 1, "chapter 99 has no exercises"), (1, 9, r"exercises \[1, 2, 3\]")],
)
def test_unknown_exercise_is_named(chapter, number, message):
    with pytest.raises(ValueError, match=message):
        check(chapter, number, None)
