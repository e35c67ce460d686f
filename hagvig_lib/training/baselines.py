"""What a size estimate is worth without looking at the picture.

Every baseline is (training table, test table) -> predicted mm of the test
frames, [N], and learns from the training frames alone.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ..data.frame_table import BOX
from ..data.sizes import size_classes


def majority_class(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Always the commonest class, at the median size of its frames."""
    classes = size_classes(train.size_mm)
    commonest = np.bincount(classes).argmax()
    return median_size(train.loc[classes == commonest], test)


def median_size(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Always the median: the constant with the least absolute error."""
    _check_known(train, "size_mm")
    return np.full(len(test), train.size_mm.median())


def apparent_size(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """From how large the box is: log size is linear in log box size."""
    return _power_law(train, test, _apparent)


def true_distance(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """An oracle: from box size times true distance, as optics has it.

    Args:
        train, test: with a column `distance_mm`, from the camera to the
            polyp, which only a synthetic scene knows.

    Raises:
        ValueError: there is no such column.
    """
    for name, table in {"train": train, "test": test}.items():
        if "distance_mm" not in table:
            raise ValueError(
                f"{name} has no column distance_mm: only synthetic frames "
                "know the true distance"
            )
    return _power_law(train, test, lambda t: _apparent(t) * t.distance_mm)


BASELINES = {
    "majority class": majority_class,
    "median size": median_size,
    "apparent size": apparent_size,
    "true distance (oracle)": true_distance,
}


def _apparent(table: pd.DataFrame) -> pd.Series:
    """Side of the square with the area of the box, in image widths."""
    area = (table.xmax - table.xmin) * (table.ymax - table.ymin)
    return area**0.5 / table.width


def _power_law(
    train: pd.DataFrame,
    test: pd.DataFrame,
    feature: Callable[[pd.DataFrame], pd.Series],
) -> np.ndarray:
    """Least squares of log size on the log of a feature."""
    _check_known(train, "size_mm", *BOX)
    _check_known(test, *BOX)
    line = np.polyfit(np.log(feature(train)), np.log(train.size_mm), 1)
    return np.exp(np.polyval(line, np.log(feature(test))))


def _check_known(table: pd.DataFrame, *columns: str) -> None:
    known = table.dropna(subset=columns)
    if len(known) < len(table):
        row = table.index.difference(known.index, sort=False)[0]
        raise ValueError(
            f"row {row} lacks some of {', '.join(columns)}: "
            "leave out frames without a polyp"
        )
