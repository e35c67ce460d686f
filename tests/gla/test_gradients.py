"""Gradients of every input, also where a gate is closed or very strong."""

from functools import partial

import pytest
import torch
from gla_definition import draw

from hagvig_lib.gla import bidirectional_gla, gla
from hagvig_lib.gla.reference import parallel

BACKEND = pytest.mark.parametrize("backend", ["reference", "chunkwise"])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("gate", ["vig", "plain"])
@pytest.mark.parametrize(
    "form",
    [
        partial(gla, return_state=True, backend="reference"),
        partial(gla, return_state=True, backend="chunkwise"),
        partial(parallel, scale=0.7),
    ],
    ids=["reference", "chunkwise", "parallel"],
)
def test_gradient_of_every_input(form, gate, reverse):
    def run(q, k, v, log_gate, state):
        return form(q, k, v, log_gate, initial_state=state, reverse=reverse)

    inputs = [x.requires_grad_() for x in draw(tokens=4, gate=gate)]
    assert torch.autograd.gradcheck(run, inputs)


@BACKEND
def test_gradient_of_every_input_in_both_directions(backend):
    q, k, v, forward, _ = draw(tokens=4)
    backward = draw(tokens=4, seed=1)[3]
    inputs = [x.requires_grad_() for x in (q, k, v, forward, backward)]
    run = partial(bidirectional_gla, backend=backend)
    assert torch.autograd.gradcheck(run, inputs)


@BACKEND
def test_gradient_of_an_infinite_gate_is_zero(backend):
    inputs = [x.requires_grad_() for x in draw(tokens=17, gate="reset")]
    output = gla(*inputs[:4], initial_state=inputs[4], backend=backend)
    gradients = torch.autograd.grad(output.square().sum(), inputs)
    assert all(g.isfinite().all() for g in gradients)
    closed = torch.isneginf(inputs[3])
    assert (gradients[3][closed] == 0).all()
    assert (gradients[3][~closed] != 0).any()
