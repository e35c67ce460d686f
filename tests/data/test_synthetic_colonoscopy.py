import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hagvig_lib.data import frame_table
from hagvig_lib.data.synthetic_colonoscopy import (
    DEPTH_STEP_MM,
    LABELS_MM,
    Cues,
    render,
    scenes,
    write,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, write(folder, 12, seed=3, frames=4)


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(
        b"".join(
            str(f.relative_to(folder)).encode() + f.read_bytes() for f in files
        )
    ).hexdigest()


def test_two_processes_write_identical_bytes(tmp_path):
    code = (
        "import sys; from hagvig_lib.data.synthetic_colonoscopy import write;"
        "write(sys.argv[1], 3, seed=5, frames=2, size=48)"
    )
    other = tmp_path / "other process"
    subprocess.run([sys.executable, "-c", code, str(other)], check=True)
    for seed in (5, 6):
        write(tmp_path / str(seed), 3, seed=seed, frames=2, size=48)
    assert digest(tmp_path / "5") == digest(other)
    assert digest(tmp_path / "6") != digest(other)


def test_more_patients_or_frames_leave_the_earlier_ones_alone():
    def first(patients, frames):
        drawn = {key: rest for key, *rest in scenes(patients, 1, frames)}
        return {key: drawn[key] for key in drawn if key[0] < 3 and key[2] < 2}

    few = first(3, 2)
    assert len(few) >= 6
    assert few == first(9, 5)


def test_the_table_describes_the_files(written):
    folder, table = written
    again = frame_table.read(folder / "table.csv", folder)
    pd.testing.assert_frame_equal(again, table, check_exact=False)
    drawn = {key: scene for key, scene, _ in scenes(12, 3, 4)}
    assert len(table) == len(drawn)
    pairs = zip(table.itertuples(), drawn.values(), strict=True)
    for row, scene in list(pairs)[::7]:
        frame = render(scene)
        rows, columns = frame.mask.nonzero()
        assert (row.xmin, row.xmax) == (columns.min(), columns.max() + 1)
        assert (row.ymin, row.ymax) == (rows.min(), rows.max() + 1)
        assert row.size_mm == row.true_mm == scene.size_mm
        assert row.distance_mm == scene.distance_mm
        np.testing.assert_array_equal(Image.open(folder / row.path), frame.rgb)
        depth = np.array(Image.open(folder / "depth" / row.path))
        assert depth.dtype == np.uint16
        # Half a step, and float32's rounding of the largest depth.
        np.testing.assert_allclose(
            depth * DEPTH_STEP_MM, frame.depth, atol=0.51 * DEPTH_STEP_MM
        )


def test_patients_share_a_lumen_and_have_one_to_three_polyps():
    drawn = list(scenes(30, 0, 1))
    polyps = pd.Series([key[0] for key, *_ in drawn]).value_counts()
    assert set(polyps) == {1, 2, 3}
    lumen = pd.DataFrame([(key[0], scene.lumen_mm) for key, scene, _ in drawn])
    assert (lumen.groupby(0)[1].nunique() == 1).all()
    assert lumen[1].nunique() == 30


def test_a_polyp_that_covers_no_pixel_leaves_a_frame_without_polyp(tmp_path):
    table = write(tmp_path, 12, frames=6, size=12)
    empty = table.polyp.isna()
    assert 0 < empty.sum() < len(table)
    assert (
        table.loc[empty, ["xmin", "size_mm", "distance_mm"]]
        .isna()
        .all(axis=None)
    )


def drawn_with(**switches):
    rows = [
        (scene._asdict(), label)
        for _, scene, label in scenes(40, 2, 2, Cues(**switches))
    ]
    table = pd.DataFrame([row for row, _ in rows])
    return table.assign(label=[label for _, label in rows])


def test_switch_metric_texture():
    assert set(drawn_with().texture_mm) == {1.0}
    assert drawn_with(metric_texture=False).texture_mm.std() > 0.3


def test_switch_lumen():
    wide = drawn_with(lumen_mm=(12, 40)).lumen_mm
    assert wide.min() < 18
    assert wide.max() > 28
    assert drawn_with().lumen_mm.between(18, 28).all()


def test_switch_distance_per_size_is_an_operator_s_habit():
    def correlation(table):
        return np.corrcoef(table.size_mm, table.distance_mm)[0, 1]

    habit = drawn_with(distance_per_size=3.0)
    assert (habit.distance_mm / habit.size_mm).between(2.55, 3.45).all()
    assert correlation(habit) > 0.9
    # Without it only polyps of more than 5 mm push the camera back.
    assert correlation(drawn_with()) < 0.7


def test_switch_auto_exposure():
    lit = drawn_with(auto_exposure=False)
    assert not lit.auto_exposure.any()
    assert drawn_with().auto_exposure.all()


def test_switch_rounding_changes_labels_and_nothing_else():
    exact, rounded = drawn_with(), drawn_with(rounding=1.0)
    assert set(rounded.label) <= set(LABELS_MM)
    nearest = abs(rounded.label.to_numpy()[:, None] - LABELS_MM).argmin(1)
    assert (abs(exact.label - LABELS_MM[nearest]) <= 2.5).all()
    pd.testing.assert_frame_equal(
        exact.drop(columns="label"), rounded.drop(columns="label")
    )
    some = drawn_with(rounding=0.5).label.isin(LABELS_MM).mean()
    assert 0.2 < some < 0.8


def test_switch_identity_gives_polyps_colours_of_their_own():
    def spread(table):
        return np.stack(table.polyp).std(0).mean()

    assert spread(drawn_with(identity=1.0)) > 1.5 * spread(drawn_with())


def test_switch_view_spread_makes_near_duplicates():
    def within(spread):
        rows = drawn_with(view_spread=spread)
        return rows.groupby("phases").distance_mm.std().mean()

    assert within(0.0) == pytest.approx(0, abs=1e-12)
    assert 0 < within(0.05) < 0.1 * within(1.0)


def test_the_camera_stays_in_the_tube_and_out_of_the_polyp():
    for switches in ({}, {"lumen_mm": (12, 40)}, {"distance_per_size": 3.2}):
        table = drawn_with(**switches)
        from_axis = table.lumen_mm - table.distance_mm * np.cos(table.tilt)
        assert (abs(from_axis) <= 0.951 * table.lumen_mm).all(), switches
        reach = table.size_mm * np.maximum(table.height, 0.5)
        assert (table.distance_mm > 1.1 * reach).all(), switches


def test_two_hundred_frames_a_second_on_two_cores(tmp_path):
    write(tmp_path / "warm", 2)
    rates = []
    for attempt in range(5):
        start = time.process_time()
        table = write(tmp_path / str(attempt), 12)
        rates.append(len(table) / (time.process_time() - start))
    # One process, so one core; other work on the machine only slows it.
    assert max(rates) > 100


@pytest.mark.parametrize(
    ("cues", "problem"),
    [
        ({"lumen_mm": (18, 45)}, "do not fit into 16 bits"),
        ({"distance_per_size": 0.5}, "touch the polyp"),
        ({"distance_mm": (200, 300)}, "no camera is that far"),
    ],
)
def test_worlds_that_cannot_be_filmed_are_refused(tmp_path, cues, problem):
    with pytest.raises(ValueError, match=problem):
        write(tmp_path, 3, **cues)


def test_the_name_says_synthetic(written):
    assert set(written[1].database) == {"SYNTHETIC"}
    assert Path(written[1].path.iloc[0]).suffix == ".png"
