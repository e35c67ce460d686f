"""Checkers for the book's exercises, one module a chapter."""

import textwrap
from importlib import import_module

__all__ = ["Wrong", "check", "verdict"]


class Wrong(Exception):
    """An answer isn't right yet; the message is the hint for the reader."""


def check(chapter: int, number: int, answer: object) -> None:
    """Print whether an answer is right, and if not, where to look.

    A wrong answer raises nothing, so that a notebook with open exercises
    runs to its end.

    Args:
        chapter: of the book.
        number: of the exercise in its chapter.
        answer: a function or value, as the exercise asks.

    Raises:
        ValueError: there is no such exercise.
    """
    hint = verdict(chapter, number, answer)
    if hint is None:
        print(f"✓ {chapter}.{number} is right.")
    else:
        # A notebook's output does not wrap by itself.
        print(textwrap.fill(f"✗ {chapter}.{number} {hint}", width=79))


def verdict(chapter: int, number: int, answer: object) -> str | None:
    """What is wrong with an answer, None if nothing; else as `check`."""
    name = f"{__name__}.chapter{chapter:02}"
    try:
        exercises = import_module(name).EXERCISES
    except ModuleNotFoundError as error:
        if error.name != name:  # a missing dependency is not a wrong number
            raise
        raise ValueError(f"chapter {chapter} has no exercises") from None
    if number not in exercises:
        raise ValueError(
            f"chapter {chapter} has exercises {sorted(exercises)},"
            f" not {number}"
        )
    try:
        exercises[number](answer)
    except Wrong as hint:
        return f"not yet: {hint}"
    except Exception as error:  # the reader's own code, whatever it raises
        return f"raised {type(error).__name__}: {error}"
