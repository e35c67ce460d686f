"""What does gated linear attention in both directions cost? (chapters 8, 11)

ViG's shapes at several batch sizes, each forward alone and as training does
it (forward and backward). In turns, on the same inputs:

- `ours`, `bidirectional_gla` by the best backend of the device;
- `two passes`, the same backend as one direction over a batch to which its
  mirror image was added, the way ViG trains;
- `fla`, those two passes by flash-linear-attention's `chunk_gla`, where it
  is installed and there is a GPU;
- `attention`, softmax attention with heads as wide as v;
- `reference`, the recurrence, up to 1024 tokens;
- `compiled`, the factorised form without a safe path under torch.compile,
  up to 256 tokens and where there is a C++ compiler.

Nothing is timed before `ours`, `two passes` and `compiled` agree with the
recurrence in float64.

What would count, said beforehand, for float32 on one CPU thread at batch 8:
`ours` against `attention` at least 1.5 times as fast forward at 1024 tokens
and 6 times at 4096, 1.8 and 6 times in training; against `reference` 2.9
and 10 times at 196 tokens; against `two passes` 1.2 and 1.4 times at 1024
with less peak memory; `compiled` at most 1.6 times as slow as `attention` at
196; and memory that grows no faster than the number of tokens.
"""

import shutil
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from ...gla import bidirectional_gla, gla
from ..timing import interleaved

TIMING = True
# Of ViG-T: batch and tokens, which are those of images of 224 to 2048 pixels.
CPU = "1x196 8x196 64x196 1x1024 8x1024 1x4096 8x4096 1x16384"
CUDA = " ".join(f"{b}x{t}" for t in (196, 1024, 4096) for b in (1, 8, 64, 256))
RUNS = [
    {"device": device, "shape": shape, "training": training}
    for device, shapes in (("cpu", CPU), ("cuda", CUDA))
    if device == "cpu" or torch.cuda.is_available()
    for shape in shapes.split()
    for training in (False, True)
]
SOURCES = ("gla/**/*.py", "measure/studies/gla.py", "measure/timing.py")
HEADS, KEY, VALUE = 3, 32, 64
SCALE = KEY**-0.5 / 2
# Of output and gradients, relative: float32 as tests/gla says; bfloat16 is
# one rounding, and two for what the rounded output's gradient becomes.
BOUNDS = {torch.float32: (1e-6, 3e-6), torch.bfloat16: (4e-3, 8e-3)}

Form = Callable[..., Tensor]


def run(
    device: str, shape: str, training: bool, rounds: int | None = None
) -> dict[str, float]:
    """Check, then time, one shape.

    Args:
        shape: "batch x tokens", without spaces.
        rounds: timed calls of each form, from 5 to 25 by size if None.

    Returns:
        For each form its `median`, `p20` and `p80` in seconds, `n`, and
        `peak`, bytes allocated at a time beyond the inputs; `error`, the
        largest relative one that the gate saw; `copy`, bytes per second
        of copying a large tensor, and `share`, the part of it that `ours`
        would need to read inputs and write results once.

    Raises:
        RuntimeError: a form disagrees with the recurrence in float64.
    """
    batch, tokens = map(int, shape.split("x"))
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    forms = _forms(device, tokens)
    small = _inputs(device, dtype, (1, min(tokens, 4096), 1))
    errors = [
        _error(forms[name], *small, training)
        for name in ("ours", "two passes", "compiled")
        if name in forms
    ]
    result: dict[str, float] = {"error": max(errors)}
    inputs, grad = _inputs(device, dtype, (batch, tokens, HEADS))
    calls = {}
    for name, form in forms.items():
        mine = inputs
        if name == "attention":  # with heads as wide as v
            mine = [grad.clone().requires_grad_() for _ in range(3)]
        calls[name] = partial(_call, form, mine, grad if training else None)
    few = max(5, min(25, 2**16 // (batch * tokens)))
    table = interleaved(calls, rounds or few)
    for name, row in table.iterrows():
        result |= {f"{name} {column}": float(x) for column, x in row.items()}
    for name, call in calls.items():
        result[f"{name} peak"] = _peak(call, device)
    result["copy"] = _copy_rate(device)
    numbers = sum(x.numel() for x in inputs) + grad.numel()
    if training:  # once more, with the output's gradient, and all gradients
        numbers += numbers + sum(x.numel() for x in inputs)
    seconds = numbers * grad.element_size() / result["copy"]
    result["share"] = seconds / result["ours median"]
    return result


def _forms(device: str, tokens: int) -> dict[str, Form]:
    forms: dict[str, Form] = {
        "ours": partial(bidirectional_gla, scale=SCALE),
        "two passes": partial(_two_passes, partial(gla, scale=SCALE)),
        "attention": _attention,
    }
    if tokens <= 1024:
        backend = {"scale": SCALE, "backend": "reference"}
        forms["reference"] = partial(bidirectional_gla, **backend)
    if tokens <= 256 and (device != "cpu" or shutil.which("c++")):
        forms["compiled"] = torch.compile(_factorised, dynamic=False)
    if device == "cuda" and find_spec("fla"):
        from fla.ops.gla import chunk_gla  # pyright: ignore

        scan = partial(chunk_gla, scale=SCALE)
        forms["fla"] = partial(_two_passes, lambda *x: scan(*x)[0])
    return forms


def _two_passes(scan: Form, q, k, v, log_gate_fwd, log_gate_bwd) -> Tensor:
    q, k, v = (torch.cat((x, x.flip(1))) for x in (q, k, v))
    output = scan(q, k, v, torch.cat((log_gate_fwd, log_gate_bwd.flip(1))))
    forward, backward = output.chunk(2)
    return forward + backward.flip(1)


def _attention(q, k, v) -> Tensor:
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*heads_first).transpose(1, 2)


def _factorised(q, k, v, log_gate_fwd, log_gate_bwd) -> Tensor:
    """Chunks of T / 4 tokens; decays are quotients, which may overflow."""
    tokens = q.shape[1]
    inputs = (q, k, v, log_gate_fwd, log_gate_bwd)
    q, k, v, *gates = (
        F.pad(x.transpose(1, 2), (0, 0, 0, -tokens % 4)).unflatten(2, (4, -1))
        for x in inputs
    )
    size = q.shape[3]
    inside = q.new_ones(size, size, dtype=torch.bool).tril()
    before = q.new_ones(4, 4, dtype=torch.bool).tril(-1)[..., None]
    output = torch.zeros_like(v)
    for gate, reverse in zip(gates, (False, True), strict=True):
        total = gate.cumsum(3)
        end = total[..., -1:, :]
        # Decay between the chunk's entry and each token, own gate included.
        b = end - total + gate if reverse else total
        middle = b[..., size // 2, None, :]
        pairs = (q * (b - middle).exp()) @ (k * (middle - b).exp()).mT
        mask = inside.mT if reverse else inside
        earlier = before.transpose(0, 1) if reverse else before
        output = output + pairs.masked_fill(~mask, 0) @ v
        writes = (k * (end - b).exp()).mT @ v
        # Between chunks: j's state decays by the chunks between j and i.
        whole = end[..., 0, :].cumsum(2)
        left = whole - end[..., 0, :]
        if reverse:
            left, whole = -whole, -left
        decay = (left[..., :, None, :] - whole[..., None, :, :]).masked_fill(
            ~earlier, -torch.inf
        )
        states = torch.einsum("bhijk,bhjkv->bhikv", decay.exp(), writes)
        output = output + (q * b.exp()) @ states
    output = output.flatten(2, 3)[:, :, :tokens].transpose(1, 2)
    return SCALE * output


def _inputs(
    device: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> tuple[list[Tensor], Tensor]:
    """q, k, v and two gates as ViG makes them, and a gradient."""
    torch.manual_seed(0)
    widths = (KEY, KEY, VALUE, KEY, KEY, VALUE)
    drawn = [torch.randn(*shape, width, device=device) for width in widths]
    drawn[3:5] = (F.logsigmoid(x) / 16 for x in drawn[3:5])
    *inputs, grad = (x.to(dtype) for x in drawn)
    return [x.requires_grad_() for x in inputs], grad


def _call(form: Form, inputs: list[Tensor], grad: Tensor | None):
    """The output, with `grad` also all gradients."""
    if grad is None:
        with torch.no_grad():
            results = [form(*inputs)]
    else:
        output = form(*inputs)
        results = [output, *torch.autograd.grad(output, inputs, grad)]
    if results[0].is_cuda:
        torch.cuda.synchronize()
    return [x.detach() for x in results]


def _error(
    form: Form, inputs: list[Tensor], grad: Tensor, training: bool
) -> float:
    """Largest relative error of the output and the gradients.

    Raises:
        RuntimeError: it is too large.
    """
    got = _call(form, inputs, grad if training else None)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    exact = partial(bidirectional_gla, scale=SCALE, backend="reference")
    expected = _call(exact, wide, grad.double() if training else None)
    errors = [
        ((a.double() - b).norm() / b.norm()).item()
        for a, b in zip(got, expected, strict=True)
    ]
    output, gradients = BOUNDS[grad.dtype]
    if not (errors[0] <= output and max(errors) <= gradients):
        raise RuntimeError(f"{form} is wrong: relative errors {errors}")
    return max(errors)


def _peak(call: Callable[[], object], device: str) -> int:
    """Bytes allocated at a time during a call, at most."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        call()
    profiler: Any = p.profiler
    events = profiler.kineto_results.events()
    changes = [e for e in events if e.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in changes))


def _copy_rate(device: str) -> float:
    """Bytes read and written per second by the copy of a large tensor."""
    source = torch.zeros(2**26, device=device)
    copy = partial(_call, torch.clone, [source], None)
    seconds = interleaved({"copy": copy}, 5).loc["copy", "median"]
    return 2 * source.nbytes / seconds
