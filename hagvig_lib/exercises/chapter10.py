"""Checkers of chapter 10, How do you write a kernel without a GPU?

Answers are kernels, decorated by `triton.jit` in the interpreter. Tensors
lie between margins, so that stray loads and stores are found out. So is who
relies on what a masked load returns unasked.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from . import Wrong

_MARGIN = 4096  # elements on each side: wrong addresses stay in our memory
_UNTOUCHED = 16384.0  # fills outputs and their margins


def gate_kernel(answer) -> None:
    """10.1: x * sigmoid(logits), channels last, any number of elements."""
    generator = torch.Generator().manual_seed(10)
    tokens, channels, block = 5, 6, 8
    numbers = tokens * channels
    x = torch.randn(tokens, channels, generator=generator).double()
    logits = torch.randn(channels, generator=generator).double()
    programs = -(-numbers // block)
    got = _launch(
        answer,
        programs,
        [x, logits],
        x.shape,
        (numbers, channels, block),
    )
    if torch.allclose(got, x * logits):
        raise Wrong("you multiply by the logit; the gate is its sigmoid")
    _compare(
        got,
        x * torch.sigmoid(logits),
        "the first wrong element is {place} = [token, channel]: which channel"
        " has element i when channels come last?",
    )


def rms_norm_kernel(answer) -> None:
    """10.2: root-mean-square norm of the rows of a strided view."""
    generator = torch.Generator().manual_seed(11)
    batch, tokens, heads, width, block = 2, 3, 2, 6, 8
    eps = 0.01
    wide = torch.randn(batch, tokens, 30, generator=generator).double()
    x = _between_margins(wide)[:, :, 12:24].unflatten(-1, (heads, width))
    mean = x.square().mean(-1, keepdim=True)
    shape = (batch, tokens, heads, width)
    numbers = (*x.stride()[:3], tokens, heads, width, eps, block)
    got = _launch(answer, batch * tokens * heads, [x], shape, numbers)
    if torch.allclose(got, x / (mean * width / block + eps).sqrt()):
        raise Wrong("the mean is over V numbers, not over BLOCK")
    if torch.allclose(got, x / (mean.sqrt() + eps)):
        raise Wrong("eps belongs under the root")
    _compare(
        got,
        x / (mean + eps).sqrt(),
        "the first wrong number is {place} = [b, t, h, channel]: is the row"
        " read with the view's strides, and the program's number taken apart"
        " with heads fastest, then tokens?",
    )


def scan_kernel(answer) -> None:
    """10.3: a gated scan from the last token to the first."""
    x, log_gate = _scan_inputs()
    tokens, channels = x.shape
    got = _launch(
        answer,
        -(-channels // 4),
        [x, log_gate],
        x.shape,
        (tokens, channels, 4),
    )
    if torch.allclose(got, _scan(x, log_gate)):
        raise Wrong("that is the scan from the first token to the last")
    if not torch.allclose(got[-1], x[-1]):
        raise Wrong(
            "the last token is off: it is visited first, finds a state of"
            " zero, and its own gate does not dim what it writes"
        )
    _compare(
        got,
        _scan(x.flip(0), log_gate.flip(0)).flip(0),
        "the first wrong number is {place} = [token, channel], and the last"
        " token is right: the gate of token t, an exponential, dims the"
        " state of token t + 1",
    )


def gate_gradient_kernel(answer) -> None:
    """10.4: the gradient of the log gates of a scan."""
    x, log_gate = _scan_inputs()
    tokens, channels = x.shape
    leaf = log_gate.clone().requires_grad_()
    states = _scan(x, leaf)
    grad = states.detach().cos()
    (expected,) = torch.autograd.grad(states, leaf, grad)
    states = states.detach()
    got = _launch(
        answer,
        -(-channels // 4),
        [states, log_gate, grad],
        x.shape,
        (tokens, channels, 4),
    )
    if torch.allclose(got * log_gate.exp(), expected):
        raise Wrong(
            "that is the gradient of the gate; log_gate stands in the"
            " exponent, and exp has a derivative"
        )
    if not torch.allclose(got[0], torch.zeros(channels).double()):
        raise Wrong(
            "the gate of token 0 dims a state of zero, so its gradient is"
            " 0; what do you load before the first token?"
        )
    last = grad[-1] * log_gate[-1].exp() * states[-2]
    if not torch.allclose(got[-1], last):
        raise Wrong(
            "the last token is off: nothing comes after it, and its gate"
            " multiplies the state before it"
        )
    _compare(
        got,
        expected,
        "the first wrong number is {place} = [token, channel], and the last"
        " token is right: on its way from token t + 1 to token t, what is"
        " the gradient of a state multiplied by?",
    )


def _scan_inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(12)
    x, raw = torch.randn(2, 7, 10, generator=generator).double()
    return x, torch.nn.functional.logsigmoid(raw)


def _scan(x: Tensor, log_gate: Tensor) -> Tensor:
    """s_t = exp(g_t) s_{t-1} + x_t along the first axis."""
    state, states = torch.zeros_like(x[0]), []
    for x_t, gate_t in zip(x, log_gate.exp(), strict=True):
        state = gate_t * state + x_t
        states.append(state)
    return torch.stack(states)


def _launch(kernel, programs, inputs, shape, numbers) -> Tensor:
    """What a kernel writes to an output of this shape.

    Raises:
        Wrong: it is no interpreted kernel, writes outside the output or not
            everywhere, or writes NaN.
    """
    kind = type(kernel).__name__
    if kind != "InterpretedFunction":
        raise Wrong(
            f"a {kind} is not a kernel of the interpreter: decorate it with"
            " @triton.jit, and set TRITON_INTERPRET before triton is imported"
        )
    # A view that is cut from something larger stays where it is.
    inputs = [_between_margins(x) if x.is_contiguous() else x for x in inputs]
    blank = inputs[0].new_full(shape, _UNTOUCHED)
    out, room = _room(blank, margin=_UNTOUCHED)
    with _nothing_unasked(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN in NumPy
        kernel[(programs,)](*inputs, out, *numbers)
    written = out.clone()
    out.fill_(_UNTOUCHED)
    strays = int((room != _UNTOUCHED).sum())
    if strays:
        raise Wrong(
            f"stores outside the output: {strays}; which places of the last"
            " block don't exist?"
        )
    missing = (written == _UNTOUCHED).nonzero().tolist()
    if len(missing) == written.numel():
        raise Wrong("no number has been written")
    if missing:
        raise Wrong(
            f"{len(missing)} of {written.numel()} numbers have not been"
            f" written, the first at {missing[0]}"
        )
    unknown = written.isnan().nonzero().tolist()
    if unknown:
        raise Wrong(
            f"there are NaNs, the first at {unknown[0]}: here a masked load"
            " without other= returns NaN, and so does a place outside the"
            " tensor"
        )
    return written


def _compare(got: Tensor, expected: Tensor, hint: str) -> None:
    """Raises Wrong with a hint that may name the first wrong `{place}`."""
    wrong = (~torch.isclose(got, expected)).nonzero().tolist()
    if wrong:
        raise Wrong(hint.format(place=wrong[0]))


def _between_margins(x: Tensor) -> Tensor:
    inside, _ = _room(x, margin=torch.nan)
    return inside


def _room(x: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """A contiguous copy of x, and the larger tensor in which it lies."""
    room = x.new_full((x.numel() + 2 * _MARGIN,), margin)
    return room[_MARGIN:-_MARGIN].view(x.shape).copy_(x), room


@contextmanager
def _nothing_unasked() -> Iterator[None]:
    """Masked loads without `other` return NaN where the mask is false.

    So may a GPU; Triton's interpreter would return zero.
    """
    from triton.runtime.interpreter import interpreter_builder

    load = interpreter_builder.create_masked_load

    def strict(address, mask, other, *rest):
        # A scalar's comparison, as in t > 0, is still an integer here.
        mask.data = mask.data.astype(bool)
        loaded = load(address, mask, other, *rest)
        if other is None and np.issubdtype(loaded.data.dtype, np.floating):
            loaded.data[~mask.data] = np.nan
        return loaded

    with patch.object(interpreter_builder, "create_masked_load", strict):
        yield


EXERCISES = {
    1: gate_kernel,
    2: rms_norm_kernel,
    3: scan_kernel,
    4: gate_gradient_kernel,
}
