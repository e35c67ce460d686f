"""Baselines recover what they assume, from the training frames alone."""

import numpy as np
import pandas as pd
import pytest

from hagvig_lib.data.sizes import size_classes
from hagvig_lib.training import BASELINES, frame_metrics


def frames(n, seed):
    """Boxes as a pinhole camera draws them: side = size / distance."""
    rng = np.random.default_rng(seed)
    size, distance = rng.uniform(2, 15, n), rng.uniform(10, 20, n)
    side = 64 * size / distance
    stretch = rng.uniform(0.5, 2, n)
    return pd.DataFrame(
        {
            "size_mm": size,
            "distance_mm": distance,
            "width": 64,
            "xmin": 3.0,
            "ymin": 5.0,
            "xmax": 3 + side * stretch,
            "ymax": 5 + side / stretch,
        }
    )


@pytest.fixture
def split():
    return frames(200, 0), frames(50, 1)


@pytest.mark.parametrize("name", BASELINES)
def test_frames_without_a_polyp_are_refused(split, name):
    train, test = split
    train = train.copy()
    train.loc[7, ["size_mm", "xmin", "distance_mm"]] = np.nan
    with pytest.raises(ValueError, match="row 7"):
        BASELINES[name](train, test)


def test_true_distance_inverts_the_camera(split):
    train, test = split
    got = BASELINES["true distance (oracle)"](train, test)
    np.testing.assert_allclose(got, test.size_mm, rtol=1e-9)


def test_apparent_size_is_between_median_and_oracle(split):
    train, test = split
    mae = {
        name: frame_metrics(test.size_mm, baseline(train, test))["mae"]
        for name, baseline in BASELINES.items()
    }
    assert (
        mae["true distance (oracle)"]
        < mae["apparent size"]
        < mae["median size"]
    )


def test_apparent_size_counts_image_widths_not_pixels(split):
    train, test = split
    large = test * {c: 1 if "mm" in c else 7 for c in test}
    predict = BASELINES["apparent size"]
    np.testing.assert_allclose(predict(train, test), predict(train, large))


def test_constants_come_from_the_training_frames():
    train = pd.DataFrame({"size_mm": [3.0, 6.0, 7.0, 8.0, 20.0]})
    test = pd.DataFrame({"size_mm": [1.0, 1.0]})
    assert BASELINES["median size"](train, test).tolist() == [7, 7]
    train.loc[5] = 30.0
    assert BASELINES["majority class"](train, test).tolist() == [7, 7]
    train.loc[6] = 40.0
    train.loc[7] = 50.0
    guess = BASELINES["majority class"](train, test)
    assert size_classes(guess).tolist() == [2, 2]


def test_oracle_without_distances_names_the_table(split):
    train, test = split
    oracle = BASELINES["true distance (oracle)"]
    with pytest.raises(ValueError, match="test has no column distance_mm"):
        oracle(train, test.drop(columns="distance_mm"))
