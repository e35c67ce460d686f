"""The study of ViG's speed, on images of a moment."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from hagvig_lib.gla import bidirectional_gla
from hagvig_lib.measure.studies import vig_efficiency as study
from hagvig_lib.models import vig_block

FORMS = ("vig", "written out", "sdpa")


@pytest.fixture(params=study.BOUNDS, ids=str)
def dtype(request, monkeypatch):
    """In which all is timed; on the CPU, too."""
    monkeypatch.setitem(study.DTYPES, "cpu", request.param)
    return request.param


@pytest.mark.parametrize("training", [False, True])
def test_measures_every_form(training, dtype):
    result = study.run("cpu", "tiny", 32, 2, training, rounds=1)
    assert 0 < result["error"] < study.BOUNDS[dtype]
    for form in FORMS:
        assert result[f"{form} median"] > 0
        assert result[f"{form} n"] == 1
        weights = result[
            "vig parameters" if form == "vig" else "deit parameters"
        ]
        # Training allocates a gradient for every weight, a forward does not.
        gradients = dtype.itemsize * weights
        assert (result[f"{form} peak"] > gradients) == training


@pytest.mark.parametrize(
    ("pair", "side", "vig"),
    [("tiny", 224, 1.168), ("tiny", 1024, 24.40), ("small", 224, 4.481)],
)
def test_counts_are_those_of_the_formulas(pair, side, vig):
    counts = study.counts(pair, side)
    assert counts["vig multiply_adds"] == pytest.approx(vig * 1e9, rel=1e-3)
    blocks, dim = 12, {"tiny": 192, "small": 384}[pair]
    tokens, inner = (side // 16) ** 2, {192: 512, 384: 1024}[dim]
    assert counts["down"] == blocks * tokens * dim * inner
    # Per token, direction and head two products with a state of 32 x 64.
    assert counts["recurrence"] == blocks * tokens * 2 * dim * 32 * 2
    dim, seen = {192: 192, 384: 768}[dim], tokens + 1  # a class token
    assert counts["deit multiply_adds"] == (
        blocks * (12 * dim**2 * seen + 2 * seen**2 * dim)
        + dim * (3 * 16**2 * tokens + 1000)
    )


def _swapped_gates(q, k, v, fwd, bwd, *, scale, backend):
    gates = (fwd, bwd) if backend == "reference" else (bwd, fwd)
    return bidirectional_gla(q, k, v, *gates, scale=scale, backend=backend)


def _no_scan(q, k, v, *gates, scale, backend):
    scale *= backend == "reference"
    return bidirectional_gla(q, k, v, *gates, scale=scale, backend=backend)


def _no_attention(q, k, v, **options):
    return v


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("place", "name", "wrong", "dtypes"),
    [
        (vig_block, "bidirectional_gla", _swapped_gates, [torch.float32]),
        (vig_block, "bidirectional_gla", _no_scan, study.BOUNDS),
        (F, "scaled_dot_product_attention", _no_attention, study.BOUNDS),
    ],
)
def test_a_wrong_form_is_not_timed(
    monkeypatch, place, name, wrong, dtypes, dtype, training
):
    if dtype not in dtypes:  # bfloat16 cannot see exchanged gates
        pytest.skip("a difference below this dtype's rounding")
    monkeypatch.setattr(place, name, wrong)
    monkeypatch.setattr(study, "interleaved", partial(pytest.fail, "timed"))
    with pytest.raises(RuntimeError, match="errors"):
        study.run("cpu", "tiny", 32, 1, training)


def test_forms_of_deit_differ_in_their_attention_only():
    models = study._models("tiny", 32, "cpu")
    fused = {
        form: {block.attn.fused_attn for block in models[form].blocks}
        for form in ("written out", "sdpa")
    }
    assert fused == {"written out": {False}, "sdpa": {True}}
    one, other = (models[form].state_dict() for form in fused)
    assert all(torch.equal(one[name], other[name]) for name in one)
