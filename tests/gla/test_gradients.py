"""Gradients of every input, also where a gate is closed or very strong."""

from functools import partial

import pytest
import torch
from gla_definition import draw
from torch.testing import assert_close

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


@BACKEND
@pytest.mark.parametrize("frozen", [(3,), (3, 4), (0, 1, 2)])
def test_gates_or_all_but_them_may_go_without_gradient(backend, frozen):
    inputs = [*draw(tokens=40)[:4], draw(tokens=40, seed=1)[3]]
    leaves = [x.clone().requires_grad_() for x in inputs]
    rest = [i for i in range(5) if i not in frozen]
    mixed = [leaves[i] if i in rest else x for i, x in enumerate(inputs)]
    gradients = [
        torch.autograd.grad(
            bidirectional_gla(*some, backend=backend).sum(),
            [leaves[i] for i in rest],
        )
        for some in (leaves, mixed)
    ]
    assert_close(*gradients, rtol=0, atol=0)


# Transformations of functions -----------------------------------------------


def of_query(backend):
    """The two functions of q alone, the other inputs being constants."""
    q, k, v, gate, _ = draw(tokens=6)
    options = {"backend": backend}
    return q, (
        lambda q: gla(q, k, v, gate, **options),
        lambda q: bidirectional_gla(q, k, v, gate, gate, **options),
    )


# Torch's own rules for this mode are scripts.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_derivative_is_refused_not_zero():
    """Both functions are linear in q: the derivative along q is the value."""
    q, functions = of_query("chunkwise")
    for run in functions:
        with pytest.raises(NotImplementedError, match=r"q carries.*'refer"):
            torch.func.jvp(run, (q,), (q,))
    for run in of_query("reference")[1]:
        assert_close(*torch.func.jvp(run, (q,), (q,)))


def test_functional_gradient_needs_the_reference():
    q, functions = of_query("chunkwise")
    for run in functions:
        with pytest.raises(RuntimeError, match="functorch"):
            torch.func.vjp(run, q)
    for run in of_query("reference")[1]:
        leaf = q.clone().requires_grad_()
        (expected,) = torch.autograd.grad(run(leaf).sum(), leaf)
        got = torch.func.grad(lambda q, run=run: run(q).sum())(q)
        assert_close(got, expected)


@BACKEND
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_mapped_over_examples(backend):
    q, functions = of_query(backend)
    queries = torch.stack((q, 2 * q, -q))
    for run in functions:
        one_by_one = torch.stack([run(x) for x in queries])
        assert_close(torch.vmap(run)(queries), one_by_one)


def test_gates_that_are_mapped_cannot_be_checked():
    q, k, v, gate, _ = draw()
    gates = torch.stack((gate, 2 * gate))
    run = partial(gla, q, k, v, backend="reference")
    with pytest.raises(RuntimeError, match="vmap"):
        torch.vmap(run)(gates)
    mapped = torch.vmap(partial(run, check=False))(gates)
    assert_close(mapped, torch.stack([run(g) for g in gates]))
