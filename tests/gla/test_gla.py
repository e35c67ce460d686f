"""The public functions: defaults, invariances, precision, compilation."""

import pytest
import torch
from gla_definition import defined, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from hagvig_lib.gla import bidirectional_gla, gla

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # derived in test_reference.py
REVERSE = pytest.mark.parametrize("reverse", [False, True])
property_test = settings(max_examples=30, deadline=None, derandomize=True)


@st.composite
def problems(draw_value, least_tokens=1):
    """Small shapes with key and value widths apart, any gate family."""
    sizes = {
        "batch": draw_value(st.integers(1, 3)),
        "tokens": draw_value(st.integers(least_tokens, 12)),
        "heads": draw_value(st.integers(1, 2)),
        "key": draw_value(st.integers(1, 4)),
        "value": draw_value(st.integers(1, 5)),
        "seed": draw_value(st.integers(0, 1000)),
    }
    gate = draw_value(st.sampled_from(["vig", "strong", "mixed", "reset"]))
    return draw(**sizes, gate=gate)


def both_gates(log_gate):
    """A second, different gate: the first one with its tokens moved on."""
    return log_gate, log_gate.roll(1, 1)


# What comes out ------------------------------------------------------------


def test_defaults_are_forward_with_scale_from_the_key_width():
    *inputs, _ = draw(key=3)
    expected, _ = defined(*inputs, scale=3**-0.5)
    assert_close(gla(*inputs), expected, **EXACT)


def test_returned_state_is_the_one_after_the_last_token_visited():
    *inputs, state = draw()
    options = {"scale": 1.0, "reverse": True, "initial_state": state}
    result = gla(*inputs, **options, return_state=True)
    assert_close(result, defined(*inputs, **options), **EXACT)


def test_a_token_alone_reads_itself_twice_in_both_directions():
    q, k, v, gate, _ = draw(tokens=1, gate="strong")
    score = (q * k).sum(-1, keepdim=True)
    assert_close(bidirectional_gla(q, k, v, gate, gate, scale=0.5), score * v)


def test_empty_batch():
    *inputs, _ = draw(batch=0)
    output, state = gla(*inputs, return_state=True)
    assert output.shape == (0, 5, 2, 4)
    assert state.shape == (0, 2, 3, 4)


@REVERSE
def test_accepts_views_and_leaves_inputs_alone(reverse):
    q, k, v, gate, state = draw()
    packed = torch.cat((q, k, v, gate), -1)
    views = packed.split((3, 3, 4, 3), -1)
    assert not views[0].is_contiguous()
    one_gate = gate[:, :1, :, :1].expand_as(gate)
    before = packed.clone()
    result = gla(*views[:3], one_gate, reverse=reverse, initial_state=state)
    expected = gla(
        q, k, v, one_gate.clone(), reverse=reverse, initial_state=state
    )
    assert_close(result, expected, rtol=0, atol=0)
    assert_close(packed, before, rtol=0, atol=0)


# Properties ----------------------------------------------------------------


@given(problems())
@property_test
def test_reverse_is_flip_scan_flip(problem):
    *inputs, state = problem
    flipped = [x.flip(1) for x in inputs]
    backward = gla(
        *inputs, reverse=True, initial_state=state, return_state=True
    )
    output, final = gla(*flipped, initial_state=state, return_state=True)
    assert_close(backward, (output.flip(1), final), rtol=0, atol=0)


@given(problems())
@property_test
def test_flip_the_tokens_swap_the_gates_flip_the_output(problem):
    q, k, v, gate, _ = problem
    forward, backward = both_gates(gate)
    output = bidirectional_gla(q, k, v, forward, backward)
    mirrored = [x.flip(1) for x in (q, k, v, backward, forward)]
    assert_close(bidirectional_gla(*mirrored).flip(1), output, rtol=0, atol=0)


@given(problems())
@property_test
def test_examples_of_a_batch_do_not_see_each_other(problem):
    *inputs, state = problem
    whole = gla(*inputs, initial_state=state)
    rows = [
        gla(*(x[b : b + 1] for x in inputs), initial_state=state[b : b + 1])
        for b in range(len(state))
    ]
    assert_close(whole, torch.cat(rows), **EXACT)


@given(problems(least_tokens=2), st.data(), st.booleans())
@property_test
def test_in_pieces_is_the_same_as_whole(problem, data, reverse):
    *inputs, state = problem
    options = {"reverse": reverse, "return_state": True}
    whole, end = gla(*inputs, initial_state=state, **options)
    cut = data.draw(st.integers(1, whole.shape[1] - 1))
    left = [x[:, :cut] for x in inputs]
    right = [x[:, cut:] for x in inputs]
    if reverse:
        second, between = gla(*right, initial_state=state, **options)
        first, final = gla(*left, initial_state=between, **options)
    else:
        first, between = gla(*left, initial_state=state, **options)
        second, final = gla(*right, initial_state=between, **options)
    assert_close(
        (torch.cat((first, second), 1), final), (whole, end), rtol=0, atol=0
    )


@given(problems(least_tokens=2), st.data())
@property_test
def test_an_infinite_gate_starts_again(problem, data):
    q, k, v, gate, state = problem
    start = data.draw(st.integers(1, q.shape[1] - 1))
    gate = gate.clone()
    gate[:, start] = -torch.inf
    whole = gla(q, k, v, gate, initial_state=state)
    alone = gla(*(x[:, start:] for x in (q, k, v, gate)))
    assert_close(whole[:, start:], alone, rtol=0, atol=0)


# Precision -----------------------------------------------------------------


@REVERSE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gate", ["vig", "strong", "mixed", "reset"])
def test_error_is_what_the_roundings_allow(reverse, dtype, gate):
    """A bound for each value, not a tolerance that happens to pass.

    A term passes, per token, exp (2 roundings allowed), the gate's product
    and the sum with the write: 4 T. Then the read: K products and sums, the
    scale. Each rounding is half an eps of float32; the output's own is half
    an eps of its dtype. Errors are relative to the sum of absolute terms.
    """
    tokens, key = 64, 3
    q, k, v, log_gate, _ = draw(tokens=tokens, key=key, gate=gate, dtype=dtype)
    options = {"scale": 0.7, "reverse": reverse}
    exact, _ = defined(q, k, v, log_gate, **options)
    size, _ = defined(q.abs(), k.abs(), v.abs(), log_gate, **options)
    roundings = 4 * tokens + key + 4
    bound = roundings * torch.finfo(torch.float32).eps / 2 * size
    bound += torch.finfo(dtype).eps / 2 * (exact.abs() + bound)
    result = gla(q, k, v, log_gate, **options)
    assert result.dtype == dtype
    assert ((result.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_float32_gates_and_states(dtype):
    q, k, v, gate, state = draw()
    q, k, v = (x.to(dtype) for x in (q, k, v))
    gate, state = gate.float(), state.float()
    output, final = gla(q, k, v, gate, initial_state=state, return_state=True)
    assert (output.dtype, final.dtype) == (dtype, torch.float32)
    widened = gla(q.float(), k.float(), v.float(), gate, initial_state=state)
    assert_close(output, widened.to(dtype), rtol=0, atol=0)


# torch.compile -------------------------------------------------------------


def test_compiles_without_a_graph_break():
    def loss(q, k, v, gate):
        one = gla(q, k, v, gate, reverse=True)
        return (one * bidirectional_gla(q, k, v, gate, 2 * gate)).sum()

    *inputs, _ = draw(tokens=4)
    inputs = [x.requires_grad_() for x in inputs]
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected, result = loss(*inputs), compiled(*inputs)
    assert_close(result, expected, **EXACT)
    for a, b in zip(
        torch.autograd.grad(result, inputs),
        torch.autograd.grad(expected, inputs),
        strict=True,
    ):
        assert_close(a, b, **EXACT)


@REVERSE
def test_autocast_leaves_the_scan_in_its_own_precision(reverse):
    q, k, x, v = torch.randn(4, 2, 9, 3, 8)
    gate = torch.nn.functional.logsigmoid(x)
    expected = gla(q, k, v, gate, reverse=reverse)
    both = bidirectional_gla(q, k, v, gate, gate)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gla(q, k, v, gate, reverse=reverse), expected)
        assert torch.equal(bidirectional_gla(q, k, v, gate, gate), both)
