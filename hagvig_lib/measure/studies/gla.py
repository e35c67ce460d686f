"""What does gated linear attention in both directions cost? (chapters 8, 11)

ViG's shapes at several batch sizes, each forward alone and as training does
it (forward and backward). In turns, on the same inputs:

- `ours`, `bidirectional_gla` by the best backend of the device;
- `two passes`, the same backend as one direction over a batch to which its
  mirror image was added, the way ViG trains;
- `fla`, those two passes by flash-linear-attention's `chunk_gla`, where it
  is installed and there is a GPU;
- `released kind`, a kernel of our own that takes one token after the other
  from both sides, the way ViG is evaluated: on a GPU, forward only (what ViG
  has for training is `two passes`);
- `attention`, softmax attention with heads as wide as v;
- `reference`, the recurrence, up to 1024 tokens and 65536 in a batch;
- `compiled`, the factorised form without a safe path under torch.compile,
  up to 256 tokens and where there is a C++ compiler.

Nothing is timed before all of them, but attention, agree with the recurrence
in float64 on two examples of two heads.

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
from .rivals.plain import attention, factorised, two_passes

TIMING = True
# Batch and tokens; those of ViG-T for images of 224 to 2048 pixels.
SHAPES = {
    "cpu": [
        *((1, 196), (8, 196), (64, 196), (1, 1024), (8, 1024)),
        *((1, 4096), (8, 4096), (1, 16384)),
    ],
    "cuda": [(b, t) for t in (196, 1024, 4096) for b in (1, 8, 64, 256)],
}
RUNS = [
    {"device": device, "batch": batch, "tokens": tokens, "training": training}
    for device, shapes in SHAPES.items()
    if device == "cpu" or torch.cuda.is_available()
    for batch, tokens in shapes
    for training in (False, True)
]
SOURCES = (
    "gla/**/*.py",
    "measure/studies/gla.py",
    "measure/studies/rivals/*.py",
    "measure/timing.py",
)
HEADS, KEY, VALUE = 3, 32, 64
SCALE = KEY**-0.5 / 2
EXACT = partial(bidirectional_gla, scale=SCALE, backend="reference")
# Of output and gradients, relative: float32 as tests/gla says; bfloat16 is
# one rounding, and two for what the rounded output's gradient becomes.
BOUNDS = {torch.float32: (1e-6, 3e-6), torch.bfloat16: (4e-3, 8e-3)}
# Rivals round to bfloat16 between their steps, too.
RIVALS = BOUNDS | {torch.bfloat16: (1e-2, 2e-2)}

Form = Callable[..., Tensor]


def run(
    device: str,
    batch: int,
    tokens: int,
    training: bool,
    rounds: int | None = None,
) -> dict[str, float]:
    """Check, then time, one shape.

    Args:
        rounds: timed calls of each form, from 5 to 25 by size if None.

    Returns:
        For each form its `median`, `p20` and `p80` in seconds, `n`, `peak`,
        bytes allocated at a time beyond the inputs, and (but for attention)
        `error`, the largest relative one of output and gradients; `copy`,
        bytes per second of copying a large tensor, and `share`, the part of
        it that `ours` would need to read inputs and write results once.

    Raises:
        RuntimeError: a form disagrees with the recurrence in float64.
    """
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    forms = _forms(device, batch, tokens, training)
    small = _inputs(device, dtype, (2, min(tokens, 4096), 2))
    result = _errors(forms, *small, training)
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


def _forms(
    device: str, batch: int, tokens: int, training: bool
) -> dict[str, Form]:
    forms: dict[str, Form] = {
        "ours": partial(bidirectional_gla, scale=SCALE),
        "two passes": partial(two_passes, partial(gla, scale=SCALE)),
        "attention": attention,
    }
    if tokens <= 1024 and batch * tokens <= 2**16:
        forms["reference"] = EXACT
    if tokens <= 256 and (device != "cpu" or shutil.which("c++")):
        torch.compiler.reset()  # a process compiles no more than 8 shapes
        plain = torch.compile(factorised, fullgraph=True, dynamic=False)
        forms["compiled"] = partial(plain, scale=SCALE)
    if device == "cuda" and find_spec("fla"):
        # The checker cannot find it: it is no requirement.
        from fla.ops.gla import chunk_gla  # pyright: ignore

        scan = partial(chunk_gla, scale=SCALE)
        forms["fla"] = partial(two_passes, lambda *x: scan(*x)[0])
    if device == "cuda" and not training:
        from .rivals.token_by_token import token_by_token

        forms["released kind"] = partial(token_by_token, scale=SCALE)
    return forms


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


def _errors(
    forms: dict[str, Form], inputs: list[Tensor], grad: Tensor, training: bool
) -> dict[str, float]:
    """Largest relative error of each form, attention's left out.

    Raises:
        RuntimeError: one is too large; names the form.
    """
    wide = [x.detach().double().requires_grad_() for x in inputs]
    expected = _call(EXACT, wide, grad.double() if training else None)
    found = {}
    for name in forms.keys() - {"attention"}:
        got = _call(forms[name], inputs, grad if training else None)
        errors = [
            ((a.double() - b).norm() / b.norm()).item()
            for a, b in zip(got, expected, strict=True)
        ]
        output, gradients = (BOUNDS if name == "ours" else RIVALS)[grad.dtype]
        if not (errors[0] <= output and max(errors) <= gradients):
            raise RuntimeError(f"{name} is wrong: relative errors {errors}")
        found[f"{name} error"] = max(errors)
    return found


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
