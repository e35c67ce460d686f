"""One table for the frames of every source: a row per frame and polyp.

A frame without a polyp has one row with null polyp, box and size. Nothing is
repaired and no row is skipped: `check` refuses the whole table, naming the
first row that is wrong and its picture.

=====================  =====================================================
database               source, such as REAL-Colon
patient, video, polyp  names, unique within a database
frame                  number of the frame in its video
path                   of the picture, inside the data folder
xmin ymin xmax ymax    box in pixel edges, 0 <= xmin < xmax <= width
width, height          of the picture in pixels
size_mm                of the polyp, as the endoscopist states it
fold                   null until `folds` has filled it
=====================  =====================================================
"""

from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

NAMES = ["database", "patient", "video", "polyp", "path"]
BOX = ["xmin", "ymin", "xmax", "ymax"]
NUMBERS = ["frame", *BOX, "width", "height", "size_mm", "fold"]
COLUMNS = [*NAMES[:4], "frame", "path", *NUMBERS[1:]]
KEY = ["database", "video", "frame", "polyp"]
OF_POLYP = ["polyp", *BOX, "size_mm"]  # null together
ALWAYS = [name for name in COLUMNS if name not in (*OF_POLYP, "fold")]
# What is the same in all rows that share the first name.
ONE_EACH = {
    "video": ["patient"],
    "polyp": ["patient", "size_mm"],
    "path": ["video", "frame", "width", "height"],
}
# What Pillow raises for a file that it cannot decode to its end.
UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError)


def read(csv: str | Path, folder: str | Path | None = None) -> pd.DataFrame:
    """The checked table of a CSV file; errors as `check`, with its name."""
    table = pd.read_csv(
        csv,
        dtype=dict.fromkeys(NAMES, str),
        keep_default_na=False,
        na_values="",
    )
    try:
        return check(table, folder)
    except ValueError as error:
        raise ValueError(f"{csv}: {error}") from error


def check(
    table: pd.DataFrame, folder: str | Path | None = None
) -> pd.DataFrame:
    """A copy with the columns' types, `COLUMNS` first; others stay.

    Args:
        table: with all of `COLUMNS`.
        folder: if given, every picture in it is opened and decoded, once;
            minutes for a large database, so do it once and not in training.

    Raises:
        ValueError: a column is missing, or the first row that breaks a rule
            of the module's head, with its picture, value and the remedy.
    """
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(
            f"the frame table lacks the columns {', '.join(missing)}; it "
            f"has {', '.join(map(str, table.columns))}"
        )
    extra = [name for name in table.columns if name not in COLUMNS]
    table = _typed(table.loc[:, [*COLUMNS, *extra]])
    _check_rows(table)
    _check_groups(table)
    if folder is not None:
        _check_pictures(table, Path(folder))
    return table


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    table = table.astype(dict.fromkeys(NAMES, "string"))
    for name in NUMBERS:
        column = pd.to_numeric(table[name], errors="coerce")
        numbers = pd.Series(column, table.index, dtype=float)
        wrong = (numbers.isna() & table[name].notna()) | np.isinf(numbers)
        _refuse(table, wrong, f"{name} is not a finite number", name)
        if name in ("frame", "width", "height", "fold"):
            _refuse(table, numbers % 1 > 0, f"{name} is not whole", name)
            numbers = numbers.astype("Int64")
        table[name] = numbers
    return table


def _check_rows(table: pd.DataFrame) -> None:
    for name in ALWAYS:
        _refuse(table, table[name].isna(), f"{name} is null", name)
    some = table[OF_POLYP].notna()
    rule = (
        "polyp, box and size_mm are null together or not at all; leave all "
        "empty for a frame without a polyp"
    )
    _refuse(table, some.any(axis=1) & ~some.all(axis=1), rule, *OF_POLYP)
    for name in ("width", "height", "size_mm"):
        _refuse(table, table[name] <= 0, f"{name} is not positive", name)
    rule = (
        "the box is empty or leaves the picture; clamp it in the converter, "
        "and count how often"
    )
    for low, high, end in (
        ("xmin", "xmax", "width"),
        ("ymin", "ymax", "height"),
    ):
        inside = (table[low] >= 0) & (table[high] <= table[end])
        wrong = table.polyp.notna() & ~(inside & (table[low] < table[high]))
        _refuse(table, wrong, rule, low, high, end)
    _refuse(table, table.fold < 0, "fold is negative", "fold")
    outward = table.path.map(_leaves)
    _refuse(table, outward, "the path leaves the data folder", "path")


def _check_groups(table: pd.DataFrame) -> None:
    again = table.duplicated(KEY)
    _refuse(table, again, "this frame and polyp stand in two rows", *KEY)
    for group, names in ONE_EACH.items():
        same = table.groupby(["database", group])
        for name in names:
            other = table[name] != same[name].transform("first")
            rule = f"one {group} has two values of {name}"
            _refuse(table, table[group].notna() & other, rule, group, name)


def _check_pictures(table: pd.DataFrame, folder: Path) -> None:
    root = folder.resolve()
    for index, row in table.drop_duplicates(["database", "path"]).iterrows():
        path = folder / row.path
        try:
            if not path.resolve().is_relative_to(root):
                raise ValueError("a link leads out of the data folder")
            with Image.open(path) as picture:
                picture.load()  # a truncated file fails only here
                if picture.size != (row.width, row.height):
                    raise ValueError(
                        f"the picture is {picture.width} x {picture.height}, "
                        f"the table says {row.width} x {row.height}"
                    )
        except (*UNREADABLE, ValueError) as error:
            raise ValueError(f"row {index} ({path}): {error}") from error


def _leaves(path: str) -> bool:
    """Absolute or through '..', by the rules of any operating system."""
    pure = PureWindowsPath(path)  # it knows both slashes and drives
    return bool(pure.anchor) or ".." in pure.parts


def _refuse(table: pd.DataFrame, wrong: Any, rule: str, *columns: str) -> None:
    """Raise for the first of the wrong rows, if there is one."""
    wrong = wrong.fillna(False).astype(bool)
    if wrong.any():
        row = table.loc[wrong].iloc[0]
        values = ", ".join(f"{name}={row[name]}" for name in columns)
        raise ValueError(
            f"row {row.name} ({row.path}): {rule}; here {values} "
            f"({wrong.sum()} such rows)"
        )
