"""Recurrent and parallel forms against the definition, in float64."""

import pytest
import torch
from gla_definition import defined, draw
from torch.testing import assert_close

from hagvig_lib.gla.reference import bidirectional, parallel, recurrent

# A sum of 64 terms of size 1 carries about 64 * 2.2e-16 = 1.4e-14; the
# parallel form adds the rounding of running sums (64 * 20 at most) to the
# exponent, 2.8e-13. 1e-12 is what the book promises.
EXACT = {"rtol": 1e-12, "atol": 1e-12}
FORMS = pytest.mark.parametrize("form", [recurrent, parallel])
REVERSE = pytest.mark.parametrize("reverse", [False, True])


@FORMS
@REVERSE
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("tokens", [1, 2, 5, 17, 64])
def test_agrees_with_the_definition(form, reverse, with_state, tokens):
    *inputs, state = draw(tokens=tokens, seed=tokens)
    options = {
        "scale": 0.7,
        "reverse": reverse,
        "initial_state": state if with_state else None,
    }
    assert_close(
        form(*inputs, **options), defined(*inputs, **options), **EXACT
    )


@FORMS
@REVERSE
@pytest.mark.parametrize("gate", ["plain", "strong", "mixed"])
def test_agrees_for_every_gate_strength(form, reverse, gate):
    *inputs, state = draw(tokens=64, gate=gate)
    options = {"scale": 0.7, "reverse": reverse, "initial_state": state}
    assert_close(
        form(*inputs, **options), defined(*inputs, **options), **EXACT
    )


@REVERSE
def test_recurrence_is_exact_for_infinite_gates(reverse):
    *inputs, state = draw(tokens=17, gate="reset")
    options = {"scale": 0.7, "reverse": reverse, "initial_state": state}
    assert_close(
        recurrent(*inputs, **options), defined(*inputs, **options), **EXACT
    )


def test_parallel_form_refuses_infinite_gates():
    *inputs, _ = draw(gate="reset")
    with pytest.raises(ValueError, match="inf - inf"):
        parallel(*inputs, scale=1.0)


@pytest.mark.parametrize("gate", ["vig", "strong", "reset"])
def test_both_directions_are_the_sum_of_two_definitions(gate):
    q, k, v, forward, _ = draw(tokens=17, gate=gate)
    backward = draw(tokens=17, gate=gate, seed=1)[3]
    expected = (
        defined(q, k, v, forward, scale=0.7)[0]
        + defined(q, k, v, backward, scale=0.7, reverse=True)[0]
    )
    result = bidirectional(q, k, v, forward, backward, scale=0.7)
    assert_close(result, expected, **EXACT)


@FORMS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_half_precision_inputs_in_float32(form, dtype):
    *inputs, state = draw(dtype=dtype)
    results = form(*inputs, scale=1.0, initial_state=state)
    assert [x.dtype for x in results] == [torch.float32, torch.float32]


@FORMS
def test_gradients_of_long_strong_gates_stay_finite(form):
    """exp(b_i - b_j) above the diagonal would be exp(1260) = inf."""
    inputs = [x.requires_grad_() for x in draw(tokens=64, gate="strong")]
    output, state = form(*inputs[:4], scale=1.0, initial_state=inputs[4])
    gradients = torch.autograd.grad(output.sum() + state.sum(), inputs)
    assert all(g.isfinite().all() for g in gradients)
