"""The numbers of the claims page about ViG, computed again."""

import re
from itertools import product

import pytest
import torch
from check_register import entries
from paths import BOOK
from torch import nn

from hagvig_lib.gla import bidirectional_gla
from hagvig_lib.measure import records
from hagvig_lib.measure.studies import gla as study


@pytest.fixture
def stated():
    """Sentence -> the values that its row states."""
    rows = entries(BOOK, "claims.yml")[1]["rows"]
    return {row["sentence"]: row.get("values") for row in rows}


@pytest.fixture
def runs():
    """Those of the study on the CPU."""
    record = records.load("gla")
    if record.rows.empty:
        pytest.skip(record.note())
    return record.rows.query("device == 'cpu'")


def test_attention_is_faster_on_small_pictures_only(stated, runs):
    runs = runs.query("batch == 8")
    ratio = runs["ours median"] / runs["attention median"]
    faster = (ratio < 1).groupby(runs.tokens).agg(["all", "any"])
    assert stated[3] == {
        "slower": " and ".join(f"{t:,}" for t in faster[~faster["any"]].index),
        "faster": " and ".join(f"{t:,}" for t in faster[faster["all"]].index),
        "pixels": str(16 * int(faster.index.min() ** 0.5)),
    }
    assert faster["all"].equals(faster["any"])


def test_two_gates_can_do_what_one_cannot_and_cost_little(stated):
    """A barrier before the last of three tokens, open from its right."""
    wanted = torch.ones(3, 3, dtype=torch.float64)
    wanted[:2, 2] = 0  # row i: what token i sees

    def sees(gate_fwd, gate_bwd):
        one = torch.ones(1, 3, 1, 1, dtype=torch.float64)
        v = torch.eye(3, dtype=torch.float64).reshape(1, 3, 1, 3)
        gates = (
            torch.tensor(gate, dtype=torch.float64).log().reshape(one.shape)
            for gate in (gate_fwd, gate_bwd)
        )
        seen = bidirectional_gla(one, one, v, *gates, scale=1)[0, :, 0]
        return torch.equal(seen - torch.eye(3), wanted)

    assert sees((1, 1, 1), (1, 0, 1))
    for gate in product((0, 1), repeat=3):
        assert not sees(gate, gate)
        # Nor if the way back takes the gate of the token that it has left.
        assert not sees(gate, (*gate[1:], 1))

    D, rank = 192, 16  # of the smallest network

    def size(*layers):
        return sum(p.numel() for layer in layers for p in layer.parameters())

    qkv = nn.Linear(D, 2 * D, bias=False)
    low_rank = nn.Linear(D, rank, bias=False)
    gate, gates = nn.Linear(rank, D // 2), nn.Linear(rank, D)
    out, norm = nn.Linear(D, D, bias=False), nn.RMSNorm(64)
    conv = nn.Conv2d(D, D, 3, groups=D, bias=False)
    before = size(qkv, low_rank, gate)
    scan = size(qkv, low_rank, gates, out, norm, norm)
    local = size(conv, nn.Linear(D, D))
    assert stated[4] == {
        "second_gate": f"{size(qkv, low_rank, gates) / before - 1:.1%}",
        "locality": f"{local / scan:.0%}",
    }


def test_merging_saves_what_its_record_says(stated, runs):
    saves = {
        what: (runs[f"two passes {column}"] > runs[f"ours {column}"]).sum()
        for what, column in (("faster", "median"), ("smaller", "peak"))
    }
    long = runs.query("batch == 8 and tokens == 1024").set_index("training")
    ratio = long["two passes median"] / long["ours median"]
    hoped = re.search(r"1\.2 and ([\d.]+) times at 1024", study.__doc__ or "")
    assert hoped is not None
    assert ratio[True] < float(hoped[1])  # else the row is wrong
    assert stated[5] == {
        **{"runs": len(runs), "hoped": hoped[1], **saves},
        "forward": f"{ratio[False]:.2f}",
        "training": f"{ratio[True]:.2f}",
    }
