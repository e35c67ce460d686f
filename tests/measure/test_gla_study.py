"""The study of gated linear attention, on shapes of a moment."""

import re
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from hagvig_lib.gla import bidirectional_gla, gla
from hagvig_lib.measure.studies import gla as study

BOUND = 3e-6  # of float32 gradients, see tests/gla/test_chunkwise.py
SCALE = study.SCALE


@pytest.fixture(autouse=True)
def compiler(monkeypatch):
    """torch.compile without the C++ that it would write."""
    traced = partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", traced)
    monkeypatch.setattr(study.shutil, "which", lambda name: name)


@pytest.fixture
def untimed(monkeypatch):
    monkeypatch.setattr(study, "interleaved", partial(pytest.fail, "timed"))


def errors_of(name, form, dtype=torch.float32, training=True):
    inputs = study._inputs("cpu", dtype, (2, 13, 2))
    return study._errors({name: form}, *inputs, training)


@pytest.mark.parametrize("training", [False, True])
def test_measures_every_form_of_the_device(training, monkeypatch):
    monkeypatch.setattr(study, "_copy_rate", lambda _: 1e9)
    result = study.run("cpu", 2, 20, training, rounds=1)
    forms = ("ours", "two passes", "reference", "compiled", "attention")
    for form in forms:
        assert result[f"{form} median"] > 0
        # The output at least, of which attention keeps its own.
        assert result[f"{form} peak"] >= 4 * 2 * 20 * 3 * 64
    for form in forms[:-1]:
        assert 0 < result[f"{form} error"] < BOUND
    # q, k, gates and v read, the output written: 4 * 32 + 2 * 64 numbers.
    numbers = 2 * 20 * 3 * (4 * 32 + 2 * 64)
    if training:
        numbers += 2 * 20 * 3 * (2 * (4 * 32 + 64) + 64)
    moved = 1e9 * result["share"] * result["ours median"]
    assert moved == pytest.approx(4 * numbers)


def test_every_form_of_the_docstring_is_timed_where_it_says(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(study, "find_spec", lambda _: True)
    ops = SimpleNamespace(chunk_gla=gla)
    monkeypatch.setitem(sys.modules, "fla.ops.gla", ops)
    named = set(re.findall(r"^- `([\w ]+)`", study.__doc__, re.MULTILINE))
    gpu = {"fla", "released kind"}
    assert len(named) == 7
    forms = study._forms
    assert forms("cuda", 1, 196, False).keys() == named
    assert forms("cuda", 1, 196, True).keys() == named - {"released kind"}
    assert forms("cpu", 1, 196, False).keys() == named - gpu
    assert forms("cpu", 1, 257, False).keys() == named - gpu - {"compiled"}
    for batch, tokens in ((1, 1025), (256, 1024)):
        rest = named - gpu - {"compiled", "reference"}
        assert forms("cpu", batch, tokens, False).keys() == rest
    monkeypatch.setattr(study.shutil, "which", lambda _: None)
    assert "compiled" not in forms("cpu", 1, 196, False)


NAMES = ("ours", "two passes", "reference", "compiled", "fla", "released kind")


@pytest.mark.parametrize("wrong", NAMES)
def test_nothing_is_timed_if_one_form_is_wrong(wrong, untimed, monkeypatch):
    forms = dict.fromkeys((*NAMES, "attention"), study.EXACT)
    forms[wrong] = lambda *inputs: (1 + 1e-5) * study.EXACT(*inputs)
    monkeypatch.setattr(study, "_forms", lambda *_: forms)
    with pytest.raises(RuntimeError, match=f"^{wrong} is wrong"):
        study.run("cpu", 1, 20, training=False)


def sum_of(forward, backward):
    def form(q, k, v, fwd, bwd):
        return forward(q, k, v, fwd, bwd) + backward(q, k, v, fwd, bwd)

    return form


def ahead(q, k, v, fwd, bwd):
    return gla(q, k, v, fwd, scale=SCALE)


def back(q, k, v, fwd, bwd):
    return gla(q, k, v, bwd, scale=SCALE, reverse=True)


def unread(q, k, v, fwd, bwd):
    return 0 * bwd.sum()


def itself(q, k, v, fwd, bwd):
    return -SCALE * (q * k).sum(-1, keepdim=True) * v


def late(q, k, v, fwd, bwd):
    bwd = F.pad(bwd[:, 1:], (0, 0, 0, 0, 0, 1))
    return back(q, k, v, fwd, bwd)


def wrong_gradient(*inputs):
    """The output is right, the gradient of the forward gate is not."""
    same = inputs[3].sum() - inputs[3].sum().detach()
    return study.EXACT(*inputs) + same.to(inputs[2].dtype)


SLIPS = {
    "one direction": sum_of(ahead, unread),
    "mean": lambda *x: study.EXACT(*x) / 2,
    "diagonal once": sum_of(study.EXACT, itself),
    "gates swapped": lambda *x: study.EXACT(*x[:3], x[4], x[3]),
    "gates one token late": sum_of(ahead, late),
    "heads swapped": lambda *x: study.EXACT(*x).flip(2),
    "examples swapped": lambda *x: study.EXACT(*x).flip(0),
    "gradient": wrong_gradient,
    "not a number": lambda *x: study.EXACT(*x) * torch.nan,
}


@pytest.mark.parametrize("dtype", study.BOUNDS)
@pytest.mark.parametrize("slip", SLIPS)
def test_what_is_rounded_may_be_off_but_not_another_function(slip, dtype):
    """Also by the wider bounds that rivals have in bfloat16."""
    errors_of("fla", sum_of(ahead, back), dtype)
    with pytest.raises(RuntimeError, match=r"^fla is wrong"):
        errors_of("fla", SLIPS[slip], dtype)


def test_ours_has_the_narrower_bounds():
    def rough(*inputs):
        return (1 + 6e-3) * bidirectional_gla(*inputs, scale=SCALE)

    errors_of("two passes", rough, torch.bfloat16, training=False)
    with pytest.raises(RuntimeError, match="ours"):
        errors_of("ours", rough, torch.bfloat16, training=False)


def test_gate_sees_several_heads_and_examples(untimed, monkeypatch):
    seen = []

    def look(forms, inputs, grad, training):
        seen.extend(x.shape[:3] for x in (*inputs, grad))
        raise RuntimeError("seen")

    monkeypatch.setattr(study, "_errors", look)
    with pytest.raises(RuntimeError, match="seen"):
        study.run("cpu", 1, 5, training=False)
    assert set(seen) == {(2, 5, 2)}


def test_more_shapes_are_compiled_than_a_process_keeps():
    with torch._dynamo.config.patch(recompile_limit=1):
        for tokens in (2, 3):
            inputs, _ = study._inputs("cpu", torch.float32, (1, tokens, 1))
            compiled = study._forms("cpu", 1, tokens, False)["compiled"]
            assert compiled(*inputs).shape == (1, tokens, 1, 64)
