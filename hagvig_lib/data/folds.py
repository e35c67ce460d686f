"""Folds whose sides share no patient, and, to compare, folds that do."""

from typing import Literal, get_args

import numpy as np
import pandas as pd

from .frame_table import KEY
from .sizes import size_classes

PATIENT = ["database", "patient"]
Scheme = Literal["paper", "no validation"]


def patient_folds(
    table: pd.DataFrame, n_folds: int = 6, seed: int = 0
) -> pd.DataFrame:
    """The table with `fold` filled by patient, alike in size classes.

    The classes are those of a patient's polyps, from mm. Patients with much
    of a rare class are dealt first, each to the fold that lacks it most;
    scikit-learn's `StratifiedGroupKFold` refuses classes that have fewer
    polyps than there are folds. The order of the rows plays no part.

    Args:
        table: as `frame_table.check` returns it.
        n_folds: 2 or more.
        seed: of the shuffle.

    Raises:
        ValueError: fewer patients than folds.
    """
    polyps = table.sort_values(KEY).drop_duplicates([*PATIENT, "polyp"])
    classes = size_classes(polyps.size_mm.fillna(0))
    classes[polyps.polyp.isna()] = -1  # frames without a polyp: one more
    counts = pd.crosstab([polyps[name] for name in PATIENT], classes)
    _check_count(n_folds, len(counts), "patients")
    shares = (counts / counts.sum()).to_numpy()  # of each class
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-shares[order].sum(1), kind="stable")]
    loads, patients = np.zeros((n_folds, shares.shape[1])), np.zeros(n_folds)
    for patient in order:  # to whom lacks most of what this patient has
        fold = np.lexsort((patients, loads @ shares[patient]))[0]
        loads[fold] += shares[patient]
        patients[fold] += 1
        counts.loc[counts.index[patient], "fold"] = fold
    joined = table.drop(columns="fold").join(counts["fold"], on=PATIENT)
    return joined.astype({"fold": "Int64"}).loc[:, list(table.columns)]


def frame_folds(
    table: pd.DataFrame, n_folds: int = 6, seed: int = 0
) -> pd.DataFrame:
    """The table with `fold` filled at random by frame: a leak, to compare.

    Raises:
        ValueError: fewer frames than folds.
    """
    frames = table.groupby(KEY[:3], sort=True).ngroup()
    _check_count(n_folds, frames.nunique(), "frames")
    folds = np.random.default_rng(seed).permutation(frames.nunique())
    return table.assign(fold=pd.array(folds[frames] % n_folds, "Int64"))


def split(
    table: pd.DataFrame,
    fold: int,
    scheme: Scheme = "paper",
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rows to train on, to validate and to test.

    Args:
        table: with `fold` filled.
        fold: that is tested. In the paper's scheme the next one, cyclically,
            validates and the rest trains (the paper has six folds); without
            validation that table is empty and the rest is larger.

    Raises:
        ValueError: a row has no fold, no row has this one, a fold between
            is empty, the scheme is unknown or needs more folds.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme is {scheme!r}: one of {get_args(Scheme)}")
    if table.fold.isna().any():
        row = table.fold.isna().idxmax()
        raise ValueError(f"row {row} has no fold; see patient_folds")
    folds = sorted(table.fold.unique().tolist())
    if folds != list(range(len(folds))) or fold not in folds:
        raise ValueError(
            f"fold is {fold}; the table has {folds}, and needs 0, 1, 2 ..."
        )
    if len(folds) < (least := 3 if scheme == "paper" else 2):
        raise ValueError(f"{len(folds)} folds; {scheme!r} needs {least}")
    test = table.fold == fold
    valid = table.fold == (fold + 1) % len(folds)
    if scheme == "no validation":
        valid &= False
    return table.loc[~test & ~valid], table.loc[valid], table.loc[test]


def _check_count(n_folds: int, count: int, what: str) -> None:
    if not 2 <= n_folds <= count:
        raise ValueError(
            f"n_folds is {n_folds}, for {count} {what}; take 2 to {count}, or "
            f"more {what}"
        )
