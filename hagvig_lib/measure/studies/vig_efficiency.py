"""When is ViG faster than DeiT? (chapter 13)

The two pairs of the abstract: ViG-T and DeiT-T on images of 224, 512 and
1024 pixels, ViG-S and DeiT-B on 224. In turns, on the same images, each
forward alone, the first pair at 224 also forward and backward:

- `vig`, by the best backend of the device;
- `written out`, DeiT whose attention matrices are in memory, as in the time
  of the paper's comparison;
- `sdpa`, DeiT by PyTorch's `scaled_dot_product_attention`, which never
  holds a whole matrix.

One thread of a CPU in float32, batch 1; on a GPU, where there is one,
bfloat16 and larger batches too. Before anything is timed, each form computes
what is timed, on one of the images, in the dtype and at the side that are
timed: logits, or gradients in training. These have to be those of float32,
of the recurrence for ViG and of written-out attention for DeiT. All layers
have PyTorch's default weights: with ViG's own, untrained, the scan is a
hundred-thousandth of its block, and no check would see it.

What would count, said beforehand: of two forms one is faster if their 20 to
80 % ranges do not meet. The abstract's 2 times (ViG-S, 224), 4.8 times and
90 % of the memory (ViG-T, 1024) are found again where the ratio to `written
out` reaches them, partly if it is better than 1, and today's question is the
ratio to `sdpa`. We expect, on the CPU, ViG-T faster than either DeiT-T at
1024 and slower than both at 224. Batch 1 on a GPU measures launches more
than arithmetic.

Nothing is expected of the counts, which are arithmetic and known: ViG-T has
1.17 G multiply-adds at 224 and 24.4 G at 1024, more than was published. The
columns `down` and `recurrence` are what the published ones may leave out
(V2). Without `down`, ViG-S has the abstract's 20 % of DeiT-B, with or
without the recurrence; at 1024, where nothing but a curve was published,
ViG-T with and without lies above and below what we read there, 19 G to 2 %.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...models.vig_block import VisionGLA
from ..memory import peak_bytes
from ..timing import interleaved

TIMING = True
PAIRS = {
    "tiny": ("vig_tiny_patch16_224", "deit_tiny_patch16_224"),
    "small": ("vig_small_patch16_224", "deit_base_patch16_224"),
}
GRID = [("tiny", side, False) for side in (224, 512, 1024)]
GRID += [("small", 224, False), ("tiny", 224, True)]
BATCHES = {"cpu": [1], "cuda": [1, 8, 64]}
RUNS = [
    {
        "device": device,
        "pair": pair,
        "side": side,
        "batch": batch,
        "training": training,
    }
    for device, batches in BATCHES.items()
    if device == "cpu" or torch.cuda.is_available()
    for pair, side, training in GRID
    for batch in batches
]
SOURCES = (
    "gla/**/*.py",
    "measure/memory.py",
    "measure/studies/vig_efficiency.py",
    "measure/timing.py",
    "models/vig*.py",
)
ROUNDS = {224: 25, 512: 15, 1024: 9}
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}
# On the norm of an error, over the deviation's. float32: as tests/models has
# it of logits. bfloat16 rounds by 2^-8 at most, in every one of twelve blocks
# some fifty tensors, forward and backward; independent errors add as squares.
BOUNDS = {torch.float32: 5e-5, torch.bfloat16: 2**-8 * (50 * 12) ** 0.5}


def run(
    device: str,
    pair: str,
    side: int,
    batch: int,
    training: bool,
    rounds: int | None = None,
) -> dict[str, float]:
    """Check, then count, time and weigh one pair.

    Args:
        side: of the images, in pixels; for DeiT a multiple of 16.
        rounds: timed calls of each form, `ROUNDS` if None.

    Returns:
        For each form its `median`, `p20` and `p80` in seconds, `n`, and
        `peak`, bytes allocated at a time beyond weights and images. For
        `vig` and `deit` the `parameters` and the `multiply_adds` of one
        image; of ViG's those in the `recurrence` and in the `down`
        projections that end the MLPs. `error`, the largest of the check.

    Raises:
        RuntimeError: two ways to compute the same disagree.
    """
    torch.manual_seed(0)
    models = _models(pair, side, device)
    images = torch.randn(batch, 3, side, side, device=device)
    error = _check(models, images[:1], DTYPES[device], training)
    result = {"error": error} | counts(pair, side)
    call = _step if training else _forward
    images = images.to(DTYPES[device])
    calls = {name: partial(call, models[name], images) for name in models}
    table = interleaved(calls, rounds or ROUNDS[side])
    for name, row in table.iterrows():
        result |= {f"{name} {column}": float(x) for column, x in row.items()}
    for name, model in models.items():
        model.zero_grad()  # so that the call allocates its gradients
        result[f"{name} peak"] = peak_bytes(calls[name], device)
    return result


def _models(pair: str, side: int, device: str) -> dict[str, nn.Module]:
    vig_name, deit_name = PAIRS[pair]
    models: dict[str, nn.Module] = {"vig": timm.create_model(vig_name)}
    for form in ("written out", "sdpa"):
        deit: Any = timm.create_model(deit_name, img_size=side)
        for block in deit.blocks:
            block.attn.fused_attn = form == "sdpa"
        models[form] = deit
    for model in models.values():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.reset_parameters()
    models["sdpa"].load_state_dict(models["written out"].state_dict())
    return {name: model.to(device).eval() for name, model in models.items()}


def _check(
    models: Mapping[str, nn.Module],
    image: Tensor,
    dtype: torch.dtype,
    training: bool,
) -> float:
    """The largest error; and models as they are timed."""
    for model in models.values():
        model.train(training)
    scans = [m for m in models["vig"].modules() if isinstance(m, VisionGLA)]
    chosen = [scan.backend for scan in scans]
    for scan in scans:
        scan.backend = "reference"
    exact = {name: _outcome(models[name], image) for name in models}
    exact["sdpa"] = exact["written out"]
    for scan, backend in zip(scans, chosen, strict=True):
        scan.backend = backend
    errors = {}
    for name, model in models.items():
        got = _outcome(model.to(dtype), image.to(dtype)).float()
        deviation = exact[name] - exact[name].mean()
        errors[name] = ((got - exact[name]).norm() / deviation.norm()).item()
    if not all(error <= BOUNDS[dtype] for error in errors.values()):
        raise RuntimeError(f"errors {errors}, more than {BOUNDS[dtype]:.2g}")
    return max(errors.values())


def _outcome(model: nn.Module, image: Tensor) -> Tensor:
    """Logits; in training mode the gradients of all weights."""
    if not model.training:
        return _forward(model, image)
    _step(model, image)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return torch.cat([grad.flatten() for grad in grads])


def counts(pair: str, side: int) -> dict[str, int]:
    """The parameters and multiply-adds that `run` returns, nothing run."""
    with torch.device("meta"):  # counting needs shapes only
        models = _models(pair, side, "meta")
    result = {}
    # By written-out attention: not every torch counts the fused one.
    for name, model in {
        "vig": models["vig"],
        "deit": models["written out"],
    }.items():
        weights = list(model.parameters())
        with FlopCounterMode(display=False) as counter:
            _forward(model, weights[0].new_zeros(1, 3, side, side))
        total = counter.get_total_flops() // 2
        result[f"{name} parameters"] = sum(p.numel() for p in weights)
        result[f"{name} multiply_adds"] = total
        if name == "vig":
            by_module = counter.get_flop_counts()
            scan = by_module["Global"][torch.ops.hagvig.bidirectional_gla] // 2
            down = sum(
                sum(operators.values()) // 2
                for module, operators in by_module.items()
                if module.endswith(".mlp.fc2")
            )
            result |= {"recurrence": scan, "down": down}
    return result


def _forward(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return logits


def _step(model: nn.Module, images: Tensor) -> None:
    """Forward and backward; gradients replace those of the call before."""
    model.zero_grad()
    model(images).square().mean().backward()
    if images.is_cuda:
        torch.cuda.synchronize()
