import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hagvig_lib.data.folds import frame_folds, patient_folds, split
from hagvig_lib.data.frame_table import COLUMNS, check
from hagvig_lib.data.sizes import size_classes


def table_of(patients):
    """A table from (database, sizes of the polyps, frames each) a patient."""
    rows = [
        {
            "database": database,
            "patient": f"p{p:03}",
            "video": f"v{p:03}",
            "polyp": f"p{p:03}-{k}" if size else None,
            "frame": k * 1000 + f,
            "path": f"{database}/{p}/{k}-{f}.png",
            "width": 8,
            "height": 8,
            "size_mm": size,
        }
        | ({"xmin": 1, "ymin": 1, "xmax": 7, "ymax": 7} if size else {})
        for p, (database, sizes, frames) in enumerate(patients)
        for k, size in enumerate(sizes)
        for f in range(frames)
    ]
    return check(pd.DataFrame(rows, columns=COLUMNS))


SIZES = st.one_of(st.none(), st.floats(1, 25))
PATIENT = st.tuples(
    st.sampled_from("AB"),
    st.lists(SIZES, min_size=1, max_size=4),
    st.integers(1, 5),
)


# Without shrinking: tables are slow, and a failure would take minutes.
@settings(max_examples=30, deadline=None, phases=[Phase.generate])
@given(
    st.lists(PATIENT, min_size=2, max_size=20),
    st.integers(2, 8),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_no_patient_on_two_sides_and_row_order_plays_no_part(
    patients, n_folds, seed, random
):
    table = table_of(patients)
    n_folds = min(n_folds, len(patients))
    folded = patient_folds(table, n_folds, seed)
    assert list(folded.columns) == list(table.columns)
    assert folded.index.equals(table.index)
    pd.testing.assert_frame_equal(
        folded.drop(columns="fold"), table.drop(columns="fold")
    )
    by_patient = folded.groupby(["database", "patient"]).fold
    assert (by_patient.nunique(dropna=False) == 1).all()
    assert set(folded.fold) == set(range(n_folds))
    order = list(table.index)
    random.shuffle(order)
    shuffled = patient_folds(table.loc[order], n_folds, seed)
    pd.testing.assert_frame_equal(shuffled.sort_index(), folded)
    for fold in range(n_folds):
        scheme = "paper" if n_folds > 2 else "no validation"
        sides = split(folded, fold, scheme)
        assert sum(map(len, sides)) == len(table)
        names = [set(zip(s.database, s.patient, strict=True)) for s in sides]
        assert not names[0] & names[1]
        assert not names[0] & names[2]
        assert not names[1] & names[2]


def many(seed=0, patients=120):
    draw = np.random.default_rng(seed)
    sizes = draw.lognormal(np.log(5), 0.6, (patients, 3)).clip(1, 20)
    return table_of(
        [("A", row[: draw.integers(1, 4)].tolist(), 2) for row in sizes]
    )


def test_size_classes_are_alike_in_all_folds():
    folded = patient_folds(many(), 6)
    polyps = folded.drop_duplicates("polyp")
    counts = pd.crosstab(polyps.fold, size_classes(polyps.size_mm))
    assert counts.shape == (6, 3)
    # Whole patients are dealt: one polyp more or less than a fair share,
    # and another as a patient has up to three.
    assert (abs(counts - counts.mean()) <= 2).all(axis=None)


def test_seeds_deal_differently():
    one, same, other = (patient_folds(many(), 6, s).fold for s in (0, 0, 1))
    assert one.equals(same)
    assert not one.equals(other)


@pytest.mark.parametrize("n_folds", [0, 1, 4])
def test_folds_without_patients_for_them_are_refused(n_folds):
    table = table_of([("A", [3.0], 4), ("A", [9.0], 4), ("B", [12.0], 4)])
    with pytest.raises(ValueError, match=rf"n_folds is {n_folds}, for 3 pat"):
        patient_folds(table, n_folds)


def test_the_paper_s_scheme_tests_k_and_validates_the_next():
    folded = patient_folds(many(), 6)
    for k in range(6):
        train, valid, test = split(folded, k)
        assert set(test.fold) == {k}
        assert set(valid.fold) == {(k + 1) % 6}
        assert set(train.fold) == set(range(6)) - {k, (k + 1) % 6}
    train, valid, test = split(folded, 2, "no validation")
    assert valid.empty
    assert set(train.fold) == {0, 1, 3, 4, 5}
    assert set(test.fold) == {2}


def test_a_table_without_folds_or_fold_is_refused():
    table = many()
    with pytest.raises(ValueError, match="row 0 has no fold"):
        split(table, 0)
    folded = patient_folds(table, 6)
    with pytest.raises(ValueError, match="fold is 6; the table has"):
        split(folded, 6)
    with pytest.raises(ValueError, match="needs 0, 1, 2"):
        split(folded[folded.fold != 3], 0)
    with pytest.raises(ValueError, match="scheme is 'none'"):
        split(folded, 0, "none")
    with pytest.raises(ValueError, match="2 folds; 'paper' needs 3"):
        split(patient_folds(table, 2), 0)


def test_polyps_of_one_frame_share_a_frame_fold():
    table = many()
    second = table.assign(polyp=table.polyp + "b")
    folded = frame_folds(pd.concat([table, second], ignore_index=True), 6)
    by_frame = folded.groupby(["database", "video", "frame"]).fold
    assert (by_frame.nunique() == 1).all()
    with pytest.raises(ValueError, match="n_folds is 0"):
        frame_folds(table, 0)


def test_frame_folds_are_even_leak_and_ignore_the_row_order():
    table = many()
    folded = frame_folds(table, 6, seed=1)
    assert folded.fold.value_counts().max() <= len(table) / 6 + 1
    sides = folded.groupby("patient").fold.nunique()
    assert (sides > 1).mean() > 0.5
    shuffled = frame_folds(table.sample(frac=1, random_state=0), 6, seed=1)
    pd.testing.assert_frame_equal(shuffled.sort_index(), folded)
