"""The Triton kernels against the recurrence in float64.

On a CUDA device they are compiled and the whole table runs; without one they
run in Triton's interpreter, slowly, on a selection of the table in which
every number of tokens, width and family of gates occurs. Tolerances are those
of test_chunkwise; an output is full of NaN before a kernel writes to it.
"""

from itertools import product

import pytest
import torch
from test_chunkwise import (
    GATES,
    NAMES,
    TOKENS,
    WIDTHS,
    both,
    check,
    exact,
    exact_one_direction,
    one,
    problem,
    results,
)

from hagvig_lib.gla import bidirectional_gla, gla
from hagvig_lib.gla.arguments import choose_backend

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"


def why_not() -> str:
    try:
        choose_backend("triton", torch.empty(1, device=DEVICE))
    except ValueError as error:
        return str(error)
    return ""


pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    # Triton 3.9 announces another default of 3.10 when it compiles.
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
]

# Every number of tokens, width and family; long ones with mild gates, which
# take one product for a chunk where the others take five.
SELECTION = [
    (1, 8, 16, "5 % -inf"),
    (2, 16, 32, "all -20"),
    (15, 40, 72, "from -20 to 0"),
    (16, 32, 64, "10 % at -20"),
    (17, 8, 16, "all -20"),
    (17, 64, 64, "5 % -inf"),
    (33, 16, 32, "from -20 to 0"),
    (63, 8, 16, "10 % at -20"),
    (64, 16, 32, "logsigmoid"),
    (65, 8, 16, "all 0"),
    (130, 16, 32, "logsigmoid / 16"),
    (196, 32, 64, "logsigmoid / 16"),
    (1000, 8, 16, "logsigmoid / 16"),
]
WHOLE = [(t, *w, g) for t, w, g in product(TOKENS, WIDTHS, GATES)]
TABLE = WHOLE if ON_GPU else SELECTION
HEADS = 2 if ON_GPU else 1  # the interpreter takes its time
FAMILIES = list(GATES)

DTYPES = [
    torch.float32,
    torch.float16,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(
            not ON_GPU, reason="the interpreter multiplies bf16 bit patterns"
        ),
    ),
]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """torch.empty and new_empty give NaN: what is not written is seen."""

    def poison(make):
        def poisoned(*args, **options):
            x = make(*args, **options)
            return x.fill_(torch.nan) if x.is_floating_point() else x

        return poisoned

    for place, name in (
        (torch, "empty_like"),
        (torch.Tensor, "new_empty"),
    ):
        monkeypatch.setattr(place, name, poison(getattr(place, name)))


def rows_of(tensors, family, dtype=torch.float32):
    """One family of gates, in place of a batch of them all."""
    row = FAMILIES.index(family)
    return [x[row : row + 1].to(DEVICE, dtype) for x in tensors]


def heads_of(tensors, family, heads=HEADS):
    """The first heads of sequences [B, T, H, ...] of one family."""
    return [x[:, :, :heads] for x in rows_of(tensors, family)]


def expected_of(tensors, family, heads=HEADS):
    row = FAMILIES.index(family)
    return [x[row : row + 1, :, :heads] for x in tensors]


def on_cpu(tensors):
    return [x.cpu() for x in tensors]


def test_the_selection_has_every_value():
    assert {t for t, _, _, _ in SELECTION} >= set(TOKENS)
    assert {(k, v) for _, k, v, _ in SELECTION} == set(WIDTHS)
    assert {family for _, _, _, family in SELECTION} == set(GATES)


@pytest.mark.parametrize(("tokens", "key", "value", "family"), TABLE)
def test_both_directions_and_their_gradients(tokens, key, value, family):
    *inputs, grad = heads_of(problem(tokens, key, value)[:-1], family)
    got = on_cpu(results(both("triton"), inputs, [grad]))
    check(got, expected_of(exact(tokens, key, value), family), NAMES)
    for log_gate, gradient in zip(on_cpu(inputs[3:]), got[4:], strict=True):
        assert (gradient[log_gate.isneginf()] == 0).all()


@pytest.mark.parametrize(
    ("tokens", "family", "reverse"),
    [
        (1, "from -20 to 0", True),
        (17, "all -20", False),
        (33, "5 % -inf", True),
        (40, "logsigmoid / 16", False),
    ],
)
def test_one_direction_its_states_and_gradients(tokens, family, reverse):
    q, k, v, log_gate, _, grad, state = problem(tokens, 16, 32)
    inputs = rows_of((q, k, v, log_gate, state), family)
    grads = rows_of((grad, state.flip(0)), family)
    got = on_cpu(results(one("triton", reverse), inputs, grads))
    row = FAMILIES.index(family)
    expected = [x[row : row + 1] for x in exact_one_direction(tokens, reverse)]
    names = ("output", "state", "q", "k", "v", "log_gate", "initial_state")
    check(got, expected, names)
    assert (got[5][inputs[3].cpu().isneginf()] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["logsigmoid / 16", "5 % -inf"])
def test_half_precision(dtype, family):
    *inputs, grad, _ = problem(33, 16, 32)
    narrow = rows_of((*inputs[:3], grad), family, dtype)
    gates = rows_of(inputs[3:], family)
    got = on_cpu(results(both("triton"), narrow[:3] + gates, narrow[3:]))
    assert [x.dtype for x in got] == [dtype] * 4 + [torch.float32] * 2
    row = FAMILIES.index(family)
    expected = [x[row : row + 1] for x in exact(33, 16, 32)]
    if dtype == torch.bfloat16:  # its products are rounded too
        for name, a, b in zip(NAMES, got, expected, strict=True):
            error = (a.double() - b).norm() / b.norm()
            assert error <= (4e-3 if name == "output" else 8e-3), name
    else:
        check(got, expected, NAMES, dtype)
    if dtype == torch.float16:
        error = (got[0].double() - expected[0]).norm() / expected[0].norm()
        assert error <= 6e-4


@pytest.mark.parametrize("width", [(128, 16), (16, 256)])
def test_wide_heads_are_cut_into_slices(width):
    *inputs, grad = heads_of(problem(17, *width)[:-1], FAMILIES[0])
    got = on_cpu(results(both("triton"), inputs, [grad]))
    check(got, expected_of(exact(17, *width), FAMILIES[0]), NAMES)


def test_strong_gates_in_some_channels_leave_the_others_alone():
    """The first 32 channels are mild, the others are taken level by level."""
    *inputs, grad = heads_of(problem(17, 64, 16)[:-1], FAMILIES[0], 1)
    for gate in inputs[3:]:
        gate[..., 40:] = -20.0
    got = on_cpu(results(both("triton"), inputs, [grad]))
    wide = [x.cpu().double() for x in (*inputs, grad)]
    check(got, results(both("reference"), wide[:-1], wide[-1:]), NAMES)


def test_more_channels_than_the_kernels_take_are_refused():
    q = torch.zeros(1, 2, 1, 129, device=DEVICE)
    with pytest.raises(ValueError, match=r"129 channels .* than 128.*chunk"):
        bidirectional_gla(q, q, q, q, q, backend="triton")


def test_views_are_read_where_they_lie():
    """Pieces of one projection, heads first, one gate for all channels."""
    mild = [FAMILIES.index(name) for name in ("logsigmoid / 16", "all 0")]
    q, k, v, fwd, bwd, grad = (
        x[mild].float().to(DEVICE) for x in problem(17, 16, 32)[:-1]
    )
    fwd = fwd[..., :1].expand_as(q)
    plain = [q, k, v, fwd.contiguous(), bwd]
    packed = torch.cat((q, k, v), -1).transpose(1, 2).contiguous()
    q, k, v = packed.transpose(1, 2).split((16, 16, 32), -1)
    views = [q, k, v, fwd, bwd]
    grad = grad[:, :1].expand_as(grad)
    assert not any(x.is_contiguous() for x in (q, k, v, fwd, grad))
    expected = results(both("triton"), plain, [grad.contiguous()])
    for a, b in zip(
        results(both("triton"), views, [grad]), expected, strict=True
    ):
        assert torch.equal(a, b)


def test_flip_the_tokens_swap_the_gates_flip_the_output():
    """Chunks end at other tokens then: equal but for rounding."""
    inputs = heads_of(problem(40, 16, 32)[:5], "logsigmoid")
    q, k, v, fwd, bwd = inputs
    output = bidirectional_gla(q, k, v, fwd, bwd, backend="triton")
    mirrored = [x.flip(1) for x in (q, k, v, bwd, fwd)]
    again = bidirectional_gla(*mirrored, backend="triton").flip(1)
    assert (again - output).norm() <= 1e-6 * output.norm()


def test_in_pieces_is_the_same_as_whole():
    *inputs, state = rows_of(
        [*problem(33, 16, 32)[:4], problem(33, 16, 32)[-1]], "10 % at -20"
    )
    options = {"return_state": True, "backend": "triton"}
    whole, end = gla(*inputs, initial_state=state, **options)
    left, right = (
        [x[:, s] for x in inputs] for s in (slice(20), slice(20, None))
    )
    first, between = gla(*left, initial_state=state, **options)
    second, final = gla(*right, initial_state=between, **options)
    pieces = torch.cat((first, second), 1)
    assert (pieces - whole).norm() <= 2e-6 * whole.norm()
    assert (final - end).norm() <= 2e-6 * end.norm()


def test_the_same_bits_twice():
    *inputs, grad = heads_of(problem(33, 16, 32)[:-1], "logsigmoid")
    first = results(both("triton"), inputs, [grad])
    second = results(both("triton"), inputs, [grad])
    assert all(map(torch.equal, first, second))


def test_an_empty_batch_gives_empty_results():
    *inputs, grad, _ = (x[:0].float().to(DEVICE) for x in problem(17, 8, 16))
    for x, y in zip(
        results(both("triton"), inputs, [grad])[1:], inputs, strict=True
    ):
        assert x.shape == y.shape
