import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hagvig_lib.data.frame_table import COLUMNS, OF_POLYP, check, read

ROW = {
    "database": "X",
    "patient": "001",
    "video": "001-001",
    "polyp": "001-001_1",
    "frame": 7,
    "path": "a/7.png",
    "xmin": 2,
    "ymin": 3,
    "xmax": 8,
    "ymax": 9,
    "width": 10,
    "height": 9,
    "size_mm": 4.5,
    "fold": None,
}
EMPTY = dict.fromkeys(OF_POLYP)


def table_of(*changes):
    """Rows that are right, each a frame of its own, with these changes."""
    rows = [
        ROW | {"frame": i, "path": f"a/{i}.png"} | change
        for i, change in enumerate(changes)
    ]
    return pd.DataFrame(rows)


def test_columns_are_the_design_s():
    assert list(ROW) == COLUMNS


def test_a_right_table_comes_back_typed_and_untouched():
    given = table_of({}, EMPTY, {"fold": 3})
    given["more"] = ["kept", "as", "is"]
    shuffled = given[["more", *reversed(COLUMNS)]]
    before = shuffled.copy(deep=True)
    table = check(shuffled)
    assert list(table) == [*COLUMNS, "more"]
    assert len(table) == 3
    assert table.polyp.isna().tolist() == [False, True, False]
    assert table.size_mm.dtype == float
    assert table.frame.dtype == table.fold.dtype == "Int64"
    assert table.patient.dtype == "string"
    pd.testing.assert_frame_equal(shuffled, before)


# A change of row 1 of 3, and what the message must name.
REFUSED = {
    "box left of the picture": ({"xmin": -1}, "box .* xmin=-1"),
    "box right of it": ({"xmax": 11}, "box .* xmax=11.* width=10"),
    "box below it": ({"ymax": 9.5}, "box .* ymax=9.5.* height=9"),
    "box of no width": ({"xmin": 8}, "box is empty"),
    "box upside down": ({"ymin": 9, "ymax": 3}, "box is empty"),
    "negative size": ({"size_mm": -4}, "size_mm is not positive.*-4"),
    "size of nothing": ({"size_mm": 0}, "size_mm is not positive"),
    "size of a word": ({"size_mm": "5-6mm"}, "size_mm is not .*5-6mm"),
    "endless size": ({"size_mm": np.inf}, "size_mm is not .* number.*inf"),
    "polyp without size": ({"size_mm": np.nan}, "null together.*size_mm=nan"),
    "polyp without box": ({"xmax": None}, "null together.*xmax=nan"),
    "box without polyp": ({"polyp": None}, "null together.*polyp=<NA>"),
    "size without polyp": (EMPTY | {"size_mm": 3}, "null together"),
    "no patient": ({"patient": None}, "patient is null"),
    "no frame": ({"frame": None}, "frame is null"),
    "half a frame": ({"frame": 1.5}, "frame is not whole.*1.5"),
    "picture of no width": ({"width": 0}, "width is not positive"),
    "fold between": ({"fold": 0.5}, "fold is not whole"),
    "same frame and polyp": ({"frame": 0}, "two rows.*frame=0"),
    "same frame, no polyp": (EMPTY | {"frame": 2}, "two rows"),
    "up and out": ({"path": "a/../../1.png"}, "leaves the data folder"),
    "absolute": ({"path": "/a/1.png"}, "leaves the data folder"),
    "another drive": ({"path": r"C:\1.png"}, "leaves the data folder"),
    "out by backslash": ({"path": r"..\1.png"}, "leaves the data folder"),
    "two sizes": ({"size_mm": 5.5}, "one polyp has two values of size_mm"),
    "two patients": (
        {"patient": "002", "polyp": "other"},
        "one video has two values of patient",
    ),
    "polyp of two patients": (
        {"patient": "002", "video": "002-001"},
        "one polyp has two values of patient",
    ),
    "picture of two frames": ({"path": "a/0.png"}, "path .* values of frame"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_row_file_value(name):
    change, message = REFUSED[name]
    last = EMPTY if name == "same frame, no polyp" else {}
    wrong = table_of({}, change, last)
    row = 2 if name == "same frame, no polyp" else 1
    file = re.escape(wrong.path[row])
    with pytest.raises(ValueError, match=rf"row {row} \({file}\).*{message}"):
        check(wrong)
    assert len(check(table_of({}, {}, last))) == 3, "right but for the change"


def test_two_polyps_in_one_frame_are_two_rows():
    both = table_of({}, {"frame": 0, "path": "a/0.png", "polyp": "other"})
    assert len(check(both)) == 2


def test_names_are_unique_within_a_database_only():
    other = {"database": "Y", "patient": "Z", "size_mm": 9, "frame": 0}
    assert len(check(table_of({}, other))) == 2


@pytest.mark.parametrize("name", COLUMNS)
def test_a_missing_column_is_named(name):
    with pytest.raises(ValueError, match=f"lacks the columns {name};"):
        check(table_of({}).drop(columns=name))


def test_the_number_of_wrong_rows_is_told():
    wrong = table_of({"xmin": -1}, {}, {"xmin": -2})
    with pytest.raises(ValueError, match=r"\(2 such rows\)"):
        check(wrong)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data/a").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (9, 10, 3), np.uint8)
    for i in range(3):
        Image.fromarray(pixels).save(tmp_path / f"data/a/{i}.png")
    table_of({}, {}, EMPTY).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "data"


def test_read_keeps_leading_zeros_and_checks_pictures(folder):
    table = read(folder.parent / "table.csv", folder)
    assert table.patient.tolist() == ["001"] * 3
    assert table.polyp.isna().tolist() == [False, False, True]


def test_a_patient_called_na_is_a_patient(folder):
    csv = folder.parent / "table.csv"
    csv.write_text(csv.read_text().replace(",001,", ",NA,"))
    assert read(csv).patient.tolist() == ["NA"] * 3


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def zero_tail(path):  # as an interrupted download leaves it
    Image.effect_noise((10, 9), 50).save(path)
    content = path.read_bytes()
    start = content.index(b"IDAT") + 4
    path.write_bytes(content[:start] + bytes(len(content) - start))


def link_outside(path):
    outside = path.parents[2] / "outside.png"
    path.rename(outside)
    path.symlink_to(outside)


def other_size(path):
    Image.new("RGB", (20, 9)).save(path)


DAMAGE = {
    "truncated": (truncate, "truncated"),
    "zeros": (zero_tail, "broken"),
    "missing": (lambda path: path.unlink(), "No such file"),
    "no picture": (lambda path: path.write_text("?"), "cannot identify"),
    "link": (link_outside, "leads out of the data folder"),
    "size": (other_size, "20 x 9, the table says 10 x 9"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_bad_picture_is_refused_with_csv_row_and_file(folder, name):
    damage, message = DAMAGE[name]
    csv = folder.parent / "table.csv"
    damage(folder / "a/1.png")
    file = re.escape(str(folder / "a/1.png"))
    with pytest.raises(
        ValueError,
        match=rf"{re.escape(str(csv))}: row 1 \({file}\).*{message}",
    ):
        read(csv, folder)
    assert len(read(csv)) == 3  # without a folder only rows are checked


def test_a_link_inside_the_folder_is_fine(folder):
    (folder / "b.png").symlink_to(folder / "a/1.png")
    table = table_of({}, {"path": "b.png"})
    assert len(check(table, folder)) == 2
