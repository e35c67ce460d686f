"""The numbers of the claims page, computed again."""

import math

import numpy as np
import pytest
import torch
from check_register import entries
from paths import BOOK
from scipy import stats
from sklearn.metrics import f1_score

from hagvig_lib.gates import HardAttentionGate
from hagvig_lib.measure import records
from hagvig_lib.measure.studies import breadth, streams

# From the README files of both data sets.
REAL_COLON = {"polyps": 132, "boxes": 351_264}
SUN = {"polyps": 100, "frames": 49_136}
# Read off the figure of the released split, in thousands of frames; its bars
# are read to about one per cent.
FOLD_FRAMES = (62.8, 85.8, 51.9, 62.0, 51.6, 57.9)
CLASS_FRAMES = {"D": 297, "S": 34, "L": 41}
SPLIT_POLYPS = {
    "D": (29, 30, 30, 30, 29, 29),
    "S": (5, 6, 6, 5, 6, 4),
    "L": (5, 3, 3, 4, 3, 5),
}
# Sizes of the same polyps, counted by the audit of arXiv 2605.20461.
AUDIT = {"at most 5 mm": 147, "larger": 85}


@pytest.fixture
def stated():
    """Sentence -> the values that its row states."""
    rows = entries(BOOK, "claims.yml")[0]["rows"]
    return {row["sentence"]: row.get("values") for row in rows}


def test_gate_does_not_look_at_its_input():
    x = torch.rand(5, 3, 7, dtype=torch.float64) + 0.1
    with torch.no_grad():
        factor = HardAttentionGate(7, dim=-1).double()(x) / x
    assert torch.allclose(factor, factor[:1, :1], rtol=1e-14)


def test_published_counts_do_not_add_up(stated):
    frames = REAL_COLON["boxes"] + SUN["frames"]
    split = 1000 * sum(FOLD_FRAMES)
    assert split == pytest.approx(1000 * sum(CLASS_FRAMES.values()), rel=0.01)
    assert stated[5] == {
        "polyps": REAL_COLON["polyps"] + SUN["polyps"],
        "frames": f"{frames:,}",
        "split_frames": f"{round(split, -3):,.0f}",
        "missing": f"{frames - round(split, -3):,.0f}",
    }
    polyps = sum(map(sum, SPLIT_POLYPS.values()))
    assert polyps == stated[5]["polyps"] == sum(AUDIT.values())


def test_a_constant_answer_scores_a_high_weighted_f1(stated):
    labels = np.repeat([0, 1, 2], list(CLASS_FRAMES.values()))
    for classes in (2, 3):
        truth = labels if classes == 3 else labels == 2
        constant = np.zeros_like(truth)
        score = f1_score(truth, constant, average="weighted")
        assert stated[7][f"constant_{classes}"] == f"{score:.1%}"


def test_the_published_split_has_other_classes_than_the_metrics(stated):
    assert stated[9] == {
        "split_small": sum(SPLIT_POLYPS["D"]),
        "polyps": sum(AUDIT.values()),
        "truly_small": AUDIT["at most 5 mm"],
    }


def test_breadth_study_says_what_its_record_says(stated):
    """By the standard of the study's docstring."""
    rows = records.load("breadth").rows
    level = 0.05 / sum(map(len, breadth.COMPARISONS.values()))
    effects, values = 0, {"seeds": rows.seed.nunique()}
    for size, group in rows.groupby("images"):
        scores = 100 * group.pivot(index="seed", columns="arm", values="test")
        for arm in ("joint", "routed"):
            d = scores[arm] - scores["ungated"]
            half = stats.t.ppf(1 - level / 2, len(d) - 1)
            half *= d.std() / math.sqrt(len(d))
            effects += abs(d.mean()) >= 1 and abs(d.mean()) > half
            low, high = d.mean() - half, d.mean() + half
            values[f"{arm}_{size}"] = (
                f"{d.mean():+.1f} ({low:+.1f} to {high:+.1f})"
            )
    few, more = breadth.EPOCHS
    verdict = {0: "none is an effect", 4: "all are effects"}
    values |= {"few": few, "more": more}
    values |= {"verdict": verdict.get(effects, f"{effects} are effects")}
    assert stated[2] == values


def test_streams_study_says_what_its_record_says(stated):
    """By the rule of the study's docstring."""
    mae = records.load("streams").rows.pivot(
        index="seed", columns=["streams", "arm"], values="mae"
    )
    family, effects = streams.FAMILIES["gates"], 0
    for first, second in family:
        d = mae[first] - mae[second]
        half = stats.t.ppf(1 - 0.05 / 2 / len(family), len(d) - 1) * d.sem()
        effects += abs(d.mean()) >= 0.1 and abs(d.mean()) > half
    assert stated[6] == {"effects": effects, "comparisons": len(family)}


def test_register_links_commits_of_the_code_that_was_read(stated):
    address = "https://github.com/cosmoimd/feature-selection-gates/blob/"
    links = {
        link
        for entry in entries(BOOK)
        if entry["part"] != "vig"
        for link in entry["where"]
    }
    assert all(link.startswith(address) for link in links)
    commits = {link.removeprefix(address).split("/")[0] for link in links}
    assert stated[10] == {"commits": len(commits)}
