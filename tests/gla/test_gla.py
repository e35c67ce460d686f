"""The public functions: defaults, invariances, precision, compilation."""

import pytest
import torch
from gla_definition import defined, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from hagvig_lib.gla import bidirectional_gla, gla

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # derived in test_reference.py
# Two orders of the same steps agree to the bit, two cuts into chunks do not.
TOLERANCE = {"reference": {"rtol": 0, "atol": 0}, "chunkwise": EXACT}
BACKEND = pytest.mark.parametrize("backend", TOLERANCE)
REVERSE = pytest.mark.parametrize("reverse", [False, True])
property_test = settings(max_examples=30, deadline=None, derandomize=True)


@st.composite
def problems(draw_value, least_tokens=1):
    """Small shapes, key and value widths apart, any gates, up to 3 chunks."""
    sizes = {
        "batch": draw_value(st.integers(1, 3)),
        "tokens": draw_value(
            st.integers(least_tokens, 12) | st.integers(30, 70)
        ),
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


@BACKEND
def test_empty_batch(backend):
    inputs = [x.requires_grad_() for x in draw(batch=0)[:4]]
    output, state = gla(*inputs, return_state=True, backend=backend)
    both = bidirectional_gla(*inputs, inputs[3], backend=backend)
    assert output.shape == both.shape == (0, 5, 2, 4)
    assert state.shape == (0, 2, 3, 4)
    gradients = torch.autograd.grad((output * both).sum(), inputs)
    assert [g.shape for g in gradients] == [x.shape for x in inputs]


@BACKEND
def test_accepts_views_and_leaves_inputs_alone(backend):
    q, k, v, gate, state = draw()
    packed = torch.cat((q, k, v, gate), -1)
    views = packed.split((3, 3, 4, 3), -1)
    assert not views[0].is_contiguous()
    one_gate = gate[:, :1, :, :1].expand_as(gate)
    before = packed.clone()
    options = {"reverse": True, "initial_state": state, "backend": backend}
    result = gla(*views[:3], one_gate, **options)
    expected = gla(q, k, v, one_gate.clone(), **options)
    assert_close(result, expected, rtol=0, atol=0)
    assert_close(packed, before, rtol=0, atol=0)


# Properties ----------------------------------------------------------------


@BACKEND
@given(problems())
@property_test
def test_reverse_is_flip_scan_flip(backend, problem):
    *inputs, state = problem
    options = {"initial_state": state, "return_state": True}
    options["backend"] = backend
    backward = gla(*inputs, reverse=True, **options)
    output, final = gla(*(x.flip(1) for x in inputs), **options)
    assert_close(backward, (output.flip(1), final), **TOLERANCE[backend])


@BACKEND
@given(problems())
@property_test
def test_flip_the_tokens_swap_the_gates_flip_the_output(backend, problem):
    q, k, v, gate, _ = problem
    forward, backward = both_gates(gate)
    mirrored = [x.flip(1) for x in (q, k, v, backward, forward)]
    output = bidirectional_gla(q, k, v, forward, backward, backend=backend)
    flipped = bidirectional_gla(*mirrored, backend=backend).flip(1)
    assert_close(flipped, output, **TOLERANCE[backend])


@BACKEND
@given(problems())
@property_test
def test_examples_of_a_batch_do_not_see_each_other(backend, problem):
    *inputs, state = problem

    def scan(examples):
        part = [x[examples] for x in inputs]
        return gla(*part, initial_state=state[examples], backend=backend)

    rows = [scan(slice(b, b + 1)) for b in range(len(state))]
    assert_close(scan(slice(None)), torch.cat(rows), **EXACT)


@BACKEND
@given(problems(least_tokens=2), st.data(), st.booleans())
@property_test
def test_in_pieces_is_the_same_as_whole(backend, problem, data, reverse):
    *inputs, state = problem

    def scan(tokens, state):
        part = [x[:, tokens] for x in inputs]
        options = {"initial_state": state, "return_state": True}
        return gla(*part, reverse=reverse, backend=backend, **options)

    whole, end = scan(slice(None), state)
    cut = data.draw(st.integers(1, whole.shape[1] - 1))
    left, right = slice(cut), slice(cut, None)
    if reverse:
        second, between = scan(right, state)
        first, final = scan(left, between)
    else:
        first, between = scan(left, state)
        second, final = scan(right, between)
    pieces = torch.cat((first, second), 1), final
    assert_close(pieces, (whole, end), **TOLERANCE[backend])


@BACKEND
@given(problems(least_tokens=2), st.data())
@property_test
def test_an_infinite_gate_starts_again(backend, problem, data):
    q, k, v, gate, state = problem
    start = data.draw(st.integers(1, q.shape[1] - 1))
    gate = gate.clone()
    gate[:, start] = -torch.inf
    whole = gla(q, k, v, gate, initial_state=state, backend=backend)
    rest = [x[:, start:] for x in (q, k, v, gate)]
    alone = gla(*rest, backend=backend)
    assert_close(whole[:, start:], alone, **TOLERANCE[backend])


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


# torch.compile and autocast -------------------------------------------------


def test_reference_compiles_without_a_graph_break():
    """The others are operators: test_operators.py."""

    def loss(q, k, v, gate, state):
        options = {"initial_state": state, "backend": "reference"}
        one, end = gla(q, k, v, gate, return_state=True, **options)
        both = bidirectional_gla(q, k, v, gate, 2 * gate, backend="reference")
        return (one * both).sum() + end.sum()

    inputs = [x.requires_grad_() for x in draw(tokens=4)]
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected, result = loss(*inputs), compiled(*inputs)
    assert_close(result, expected, **EXACT)
    got = torch.autograd.grad(result, inputs)
    assert_close(got, torch.autograd.grad(expected, inputs), **EXACT)


@BACKEND
def test_autocast_leaves_the_scan_in_its_own_precision(backend):
    q, k, x, v = torch.randn(4, 2, 9, 3, 8)
    gate = torch.nn.functional.logsigmoid(x)

    def run():
        one = gla(q, k, v, gate, reverse=True, backend=backend)
        return one, bidirectional_gla(q, k, v, gate, gate, backend=backend)

    expected = run()
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(run(), expected, rtol=0, atol=0)


def test_autocast_leaves_the_gradient_in_its_own_precision():
    q, k, x, v = torch.randn(4, 2, 9, 3, 8)
    gate = torch.nn.functional.logsigmoid(x)
    q.requires_grad_()
    output = gla(q, k, v, gate)
    output = output + bidirectional_gla(q, k, v, gate, gate)
    (expected,) = torch.autograd.grad(output.sum(), q, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        (gradient,) = torch.autograd.grad(output.sum(), q)
    assert_close(gradient, expected, rtol=0, atol=0)
