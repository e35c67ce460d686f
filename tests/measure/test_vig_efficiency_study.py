"""The study of ViG's speed, on images of a moment."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from hagvig_lib.gla import bidirectional_gla
from hagvig_lib.measure.studies import vig_efficiency as study
from hagvig_lib.models import vig_block

FORMS = ("vig", "written out", "sdpa")


@pytest.mark.parametrize("training", [False, True])
def test_measures_every_form(training):
    result = study.run("cpu", "tiny", 32, 2, training, rounds=1)
    assert 0 < result["error"] < study.BOUND
    for form in FORMS:
        assert result[f"{form} median"] > 0
        assert result[f"{form} n"] == 1
        weights = result[
            "vig parameters" if form == "vig" else "deit parameters"
        ]
        # Training allocates a gradient for every weight, a forward does not.
        assert (result[f"{form} peak"] > 4 * weights) == training


@pytest.mark.parametrize(
    ("pair", "side", "vig", "published"),
    [  # 10^9 of ViG; published: rounded as published, or read from a figure
        ("tiny", 224, 1.168, 0.9),
        ("tiny", 1024, 24.40, 18.97),
        ("small", 224, 4.481, 3.5),
    ],
)
def test_published_counts_are_ours_without_the_down_projections(
    pair, side, vig, published
):
    counts = study.counts(pair, side)
    assert counts["vig multiply_adds"] == pytest.approx(vig * 1e9, rel=0.01)
    assert counts["published"] == pytest.approx(published * 1e9, rel=0.01)
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


@pytest.mark.parametrize(
    ("place", "name", "wrong"),
    [
        (vig_block, "bidirectional_gla", _swapped_gates),
        (F, "scaled_dot_product_attention", lambda q, k, v, **options: v),
    ],
    ids=["scan", "attention"],
)
def test_a_wrong_form_is_not_timed(monkeypatch, place, name, wrong):
    monkeypatch.setattr(place, name, wrong)
    monkeypatch.setattr(study, "interleaved", partial(pytest.fail, "timed"))
    with pytest.raises(RuntimeError, match="errors"):
        study.run("cpu", "tiny", 32, 1, False)


def test_forms_of_deit_differ_in_their_attention_only():
    models = study._models("tiny", 32, "cpu")
    fused = {
        form: {block.attn.fused_attn for block in models[form].blocks}
        for form in ("written out", "sdpa")
    }
    assert fused == {"written out": {False}, "sdpa": {True}}
    one, other = (models[form].state_dict() for form in fused)
    assert all(torch.equal(one[name], other[name]) for name in one)
