"""The recorder hears each access and product, and says whose memory it is."""

import pytest
import torch

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("needs Triton's interpreter", allow_module_level=True)
tl = triton.language

# Not before the skip: they import parts of the interpreter.
from hagvig_lib.measure.kernel_traffic import (  # noqa: E402
    listening,
    totals,
)


@triton.jit
def rows_times_square(x, square, out, N, stride, W: tl.constexpr):
    """Program n: rows 16 n up to 16 n + 16 of x, times exp(square)."""
    row = tl.program_id(0) * 16 + tl.arange(0, 16)[:, None]
    column = tl.arange(0, W)[None, :]
    inside = row < N
    tile = tl.load(x + row * stride + column, inside, other=0.0)
    power = tl.load(square + tl.arange(0, W)[:, None] * W + column)
    tile, power = tile.to(tl.float32), tl.exp(power.to(tl.float32))
    tl.store(out + row * W + column, tl.dot(tile, power), inside)


def launch(x, square, out):
    size = x.shape[0], x.stride(0)
    rows_times_square[(2,)](x, square, out, *size, W=16)


def test_bytes_products_and_exponentials_of_a_launch():
    x, square = torch.randn(20, 16), torch.zeros(16, 16)
    out = torch.empty(20, 16)
    with listening() as log:
        launch(x, square, out)
    # Rows behind the twentieth are masked; the square is read twice.
    moved = 4 * (20 * 16 + 2 * 16 * 16 + 20 * 16)
    products, powers = 2 * 2 * 16 * 16 * 16, 2 * 16 * 16
    expected = 2, moved, products, powers
    assert totals(log) == {"rows_times_square": expected}
    torch.testing.assert_close(out, x.sum(1, keepdim=True).expand(20, 16))


def test_an_event_says_who_touched_which_elements():
    projection = torch.randn(20, 48, dtype=torch.float16)
    x, square = projection[:, 32:], torch.zeros(16, 16).half()
    out = torch.empty(20, 16)
    with listening() as log:
        launch(x, square, out)
    accesses = [event for event in log if event.argument]
    names = ["x", "square", "out"]
    assert [event.argument for event in accesses] == 2 * names
    assert [event.action for event in accesses[:3]] == [
        "load",
        "load",
        "store",
    ]
    rows, columns = accesses[3].indices
    assert accesses[3].program == (1, 0, 0)
    assert sorted(set(rows)) == [16, 17, 18, 19]
    assert sorted(set(columns)) == list(range(16))
    assert accesses[3].amount == 4 * 16 * 2


@pytest.mark.parametrize("first", [0, 24])
def test_views_of_one_tensor_are_told_apart(first):
    shared = torch.zeros(40, 16)
    x, out = shared[first : first + 16], shared[16 - first // 2 :][:16]
    with listening() as log:
        rows_times_square[(1,)](x, torch.zeros(16, 16), out, 16, 16, W=16)
    assert [e.argument for e in log if e.argument] == ["x", "square", "out"]


@triton.jit
def copy(unused, x, out):
    i = tl.arange(0, 16)
    tl.store(out + i, tl.load(x + i))


def test_a_single_number_does_not_own_the_memory_behind_it():
    shared = torch.zeros(33)
    with listening() as log:
        copy[(1,)](shared[:1], shared[1:17], shared[17:])
    assert [event.argument for event in log] == ["x", "out"]


def test_memory_of_no_argument_is_named():
    x, square = torch.zeros(20, 16), torch.zeros(16, 16)
    message = "memory outside the arguments x, square, out"
    with pytest.raises(Exception, match=message), listening():
        rows_times_square[(2,)](x, square, x, 32, 16, W=16)


def test_nothing_is_noted_before_or_after():
    x, square = torch.zeros(16, 16), torch.zeros(16, 16)
    with listening() as log:
        pass
    launch(x, square, x)
    assert log == []
