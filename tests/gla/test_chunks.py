"""Chunkwise: which path the gates choose, groups of heads, odd inputs."""

import math

import pytest
import torch
from gla_definition import draw
from torch.testing import assert_close

from hagvig_lib.gla import bidirectional_gla, chunkwise, gla
from hagvig_lib.gla.decay import LIMIT, base_block
from hagvig_lib.gla.reference import bidirectional
from hagvig_lib.measure.studies.gla import _peak

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # derived in test_reference.py


@pytest.mark.parametrize(
    ("chunk", "gate", "base"),
    # base / 2 such gates must not add up to -8.
    [
        (64, 0.0, 64),
        (64, -0.24, 64),
        (64, -0.26, 16),
        (64, -0.99, 16),
        (64, -1.01, 4),
        (64, -3.99, 4),
        (64, -4.01, 1),
        (64, -torch.inf, 1),
        (64, torch.nan, 1),
        (28, -0.57, 28),
        (28, -0.58, 1),
        (1, 0.0, 1),
    ],
)
def test_base_block_is_the_longest_with_little_decay(chunk, gate, base):
    weak = torch.full((3, chunk, 2), -0.1)
    strong = weak.clone()
    strong[1, :, 1] = gate
    assert base_block([weak, strong], chunk) == base


def pairs(gate):
    """Gradients of all inputs in float32, beside those of the recurrence."""
    q, k, v, _, _ = draw(tokens=200, key=8, value=8, dtype=torch.float32)
    inputs = [x.requires_grad_() for x in (q, k, v, gate, gate.clone())]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    output = bidirectional_gla(*inputs, scale=1.0, backend="chunkwise")
    expected = bidirectional(*wide, scale=1.0)
    return zip(
        torch.autograd.grad(output.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), wide),
        strict=True,
    )


@pytest.mark.parametrize("gate", [-0.4, -1.9, -7.9, -8.1, -17.0])
def test_every_base_block_is_right_for_all_gates_alike(gate):
    """Also relative to the gradient of gates this strong."""
    for a, b in pairs(torch.full((2, 200, 2, 8), gate)):
        assert (a - b).norm() <= 3e-6 * b.norm()


@pytest.mark.parametrize("strong", [-7.9, -15.0])
def test_one_strong_gate_keeps_its_own_gradient(strong):
    """As far as a base block may decay."""
    gate = torch.full((2, 200, 2, 8), -0.01)
    gate[:, 100] = strong
    bound = math.exp(LIMIT) * torch.finfo(torch.float32).eps
    assert bound < 4e-4
    for a, b in list(pairs(gate))[3:]:
        assert (a - b)[:, 100].norm() <= bound * b[:, 100].norm()


@pytest.fixture(params=[1, 50, 150, 250])
def tokens_at_a_time(request, monkeypatch):
    """One head, some heads or some examples of [3, 40, 3, ...] at a time."""
    monkeypatch.setattr(chunkwise, "TOKENS_ON_CPU", request.param)


def everything(inputs, state, backend="chunkwise"):
    """Outputs and gradients of both functions."""
    inputs = [x.detach().requires_grad_() for x in (*inputs, state)]
    options = {"initial_state": inputs[4], "return_state": True}
    one = gla(*inputs[:4], **options, reverse=True, backend=backend)
    gates = inputs[3], inputs[3].roll(1, 1)
    both = bidirectional_gla(*inputs[:3], *gates, backend=backend)
    loss = both.square().sum() + sum(x.square().sum() for x in one)
    return both, *one, *torch.autograd.grad(loss, inputs)


def test_groups_of_heads_do_not_matter(tokens_at_a_time):
    *inputs, state = draw(batch=3, tokens=40, heads=3, gate="mixed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunkwise, "TOKENS_ON_CPU", 10**6)
        whole = everything(inputs, state)
    assert_close(everything(inputs, state), whole, **EXACT)


@pytest.mark.parametrize("gate", ["vig", "plain"])
@pytest.mark.parametrize(
    "tokens", [3, 14, 28, 33, 49, 56, 191, 197, 200, 224, 256, 257, 392]
)
def test_any_length_is_cut_right(tokens, gate):
    """Weak gates allow chunks of any even length, strong ones 2 ** n."""
    *inputs, state = draw(batch=1, tokens=tokens, heads=1, gate=gate)
    expected = everything(inputs, state, "reference")
    assert_close(everything(inputs, state), expected, **EXACT)


def test_memory_grows_no_faster_than_the_number_of_tokens():
    def peak(tokens):
        inputs = draw(1, tokens, 1, 8, 8, dtype=torch.float32)
        inputs = [x.requires_grad_() for x in (*inputs[:4], inputs[3].clone())]

        def train():
            output = bidirectional_gla(*inputs, backend="chunkwise")
            gradients = torch.autograd.grad(output.sum(), inputs)
            assert all(x.isfinite().all() for x in (output, *gradients))

        return _peak(train, "cpu")

    assert peak(16384) < 4.1 * peak(4096)


def views(x):
    """The same values with other strides."""
    padded = torch.nn.functional.pad(x, (1, 2, 0, 1))
    yield padded[..., :-1, 1:-2]
    yield x.movedim(0, -1).contiguous().movedim(-1, 0)
    yield x.repeat_interleave(2, 1)[:, ::2]


@pytest.mark.parametrize("which", range(3))
def test_any_strides_give_the_same_to_the_bit(which):
    *inputs, state = draw(tokens=40)
    expected = everything(inputs, state)
    strided = [list(views(x))[which] for x in inputs]
    assert not any(x.is_contiguous() for x in strided)
    assert_close(everything(strided, state), expected, rtol=0, atol=0)


def test_expanded_inputs_and_gradients():
    q, k, v, gate, state = (x[:1, :, :1] for x in draw(tokens=40))
    state = draw()[-1][:1, :1].expand(2, 2, 3, 4)
    inputs = [x.expand(2, -1, 2, -1) for x in (q, k, v, gate)]
    copies = [x.clone() for x in inputs]
    assert_close(
        everything(inputs, state),
        everything(copies, state.clone()),
        rtol=0,
        atol=0,
    )
    # sum() hands its gradient on as one expanded number.
    leaf = v.clone().requires_grad_()
    gla(q, k, leaf, gate).sum().backward()
    other = torch.autograd.grad(
        gla(q, k, leaf, gate), leaf, torch.ones(v.shape).double()
    )
    assert_close((leaf.grad,), other, rtol=0, atol=0)


def test_empty_batch_no_heads_and_no_value_channels():
    for sizes in ({"batch": 0}, {"heads": 0}, {"value": 0}):
        *inputs, state = draw(**sizes, tokens=40)
        both, one, final, *gradients = everything(inputs, state)
        assert both.shape == one.shape == inputs[2].shape
        assert final.shape == state.shape
        shapes = [x.shape for x in (*inputs, state)]
        assert [x.shape for x in gradients] == shapes
        assert all((x == 0).all() for x in gradients)


@pytest.mark.parametrize("frozen", range(5))
def test_an_input_may_go_without_gradient(frozen):
    inputs = list(draw(tokens=40))
    leaves = [x.requires_grad_() for x in inputs]
    run = {"initial_state": leaves[4]}
    expected = torch.autograd.grad(gla(*leaves[:4], **run).sum(), leaves)
    inputs[frozen] = inputs[frozen].detach()
    rest = [x for x in inputs if x.requires_grad]
    output = gla(*inputs[:4], initial_state=inputs[4])
    got = torch.autograd.grad(output.sum(), rest)
    wanted = [x for i, x in enumerate(expected) if i != frozen]
    assert_close(got, tuple(wanted), rtol=0, atol=0)


def test_used_twice_in_a_graph_and_backward_twice():
    q, k, v, gate, _ = (x.requires_grad_() for x in draw(tokens=40))
    inputs = (q, k, v, gate)

    def loss(backend):
        once = gla(*inputs, backend=backend)
        twice = gla(q, k, once, gate, reverse=True, backend=backend)
        return (once * twice).sum()

    expected = torch.autograd.grad(loss("reference"), inputs)
    result = loss("chunkwise")
    for _ in range(2):
        got = torch.autograd.grad(result, inputs, retain_graph=True)
        assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("part", [0, 1])
def test_output_and_state_can_be_differentiated_alone(part):
    inputs = [x.requires_grad_() for x in draw(tokens=40)]

    def gradients(backend):
        options = {"initial_state": inputs[4], "return_state": True}
        result = gla(*inputs[:4], **options, backend=backend)[part]
        return torch.autograd.grad(
            result.sum(), inputs, allow_unused=True, materialize_grads=True
        )

    assert_close(gradients("chunkwise"), gradients("reference"), **EXACT)
