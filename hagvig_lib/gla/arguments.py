"""What `gla` accepts, and what it says about the rest."""

import logging
import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from .reference import accumulation_dtype

BACKENDS = ("auto", "chunkwise", "triton", "reference")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MOST_CHANNELS = 128  # of a head in the Triton kernels


def check_backend(backend: str) -> None:
    """Refuse a backend that does not exist.

    Raises:
        ValueError: names those that do.
    """
    if backend not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise ValueError(f"backend is {backend!r}: choose one of {known}")


def choose_backend(backend: str, q: Tensor) -> str:
    """ "chunkwise" or "triton"; for "auto" the faster one, said once.

    Raises:
        ValueError: "triton" cannot run there; says why and what can.
    """
    if backend == "chunkwise":
        return backend
    if backend not in ("auto", "triton"):
        raise ValueError(f"backend is {backend!r}: the operators have none")
    obstacle = _obstacle_to_triton(q, interpreted=backend == "triton")
    if backend == "auto":
        choice = "chunkwise" if obstacle else "triton"
        _say_once(choice, obstacle)
        return choice
    if obstacle:
        raise ValueError(
            f"backend is 'triton', but {obstacle}: pass backend='auto', "
            "'chunkwise' or 'reference'"
        )
    return backend


def check_tensors(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gates: dict[str, Tensor],
    initial_state: Tensor | None = None,
) -> None:
    """Refuse shapes, dtypes and devices that do not fit together.

    Raises:
        ValueError: names the argument, its shape and the one it must match.
    """
    _check_query(q)
    wide = accumulation_dtype(q.dtype)
    _check_like(q, "k", k, "[B, T, H, K]", q.shape, {q.dtype})
    _check_like(q, "v", v, "[B, T, H, V]", (*q.shape[:3], -1), {q.dtype})
    for name, gate in log_gates.items():
        _check_like(q, name, gate, "[B, T, H, K]", q.shape, {q.dtype, wide})
    if initial_state is not None:
        batch, _, heads, channels = q.shape
        shape = (batch, heads, channels, v.shape[-1])
        dtypes = {q.dtype, wide}
        _check_like(
            q, "initial_state", initial_state, "[B, H, K, V]", shape, dtypes
        )


def check_gate(name: str, log_gate: Tensor) -> None:
    """Refuse a log gate above 0 or NaN; reads the values, so it synchronises.

    Raises:
        ValueError: how many, the largest, where it is, and the remedy.
    """
    if not log_gate.numel() or log_gate.amax() <= 0:  # no NaN is <= 0
        return
    bad = ~(log_gate <= 0)
    worst = torch.unravel_index(log_gate.argmax(), bad.shape)  # NaN wins
    raise ValueError(
        f"{name} has {int(bad.sum())} of {bad.numel()} values above 0 or NaN; "
        f"the largest is {log_gate[worst].item():.4g} at "
        f"{[int(i) for i in worst]}. exp(log_gate) multiplies the state and "
        "must lie in [0, 1]: pass logsigmoid(x), not sigmoid(x) or x"
    )


def _obstacle_to_triton(q: Tensor, interpreted: bool) -> str | None:
    """Why the kernels cannot run on q, None if they can."""
    if q.dtype == torch.float64:
        return "q has dtype torch.float64, which it does not compute in"
    if q.shape[-1] > MOST_CHANNELS:
        return f"q has {q.shape[-1]} channels (K), more than {MOST_CHANNELS}"
    if find_spec("triton") is None:
        return "the package triton is not installed"
    if q.device.type == "cuda":
        capability = torch.cuda.get_device_capability(q.device)
        if capability >= (8, 0):
            return None
        return "{} has compute capability {}.{}, below 8.0".format(
            torch.cuda.get_device_name(q.device), *capability
        )
    if q.device.type != "cpu" or not interpreted:
        return f"q is on {q.device}, not on a CUDA device"
    if os.environ.get("TRITON_INTERPRET") != "1":
        return "q is on cpu and TRITON_INTERPRET=1 is not set"
    if q.dtype == torch.bfloat16:
        return "q has dtype torch.bfloat16, which its interpreter gets wrong"
    return None


@cache
def _say_once(choice: str, obstacle: str | None) -> None:
    reason = f" ({obstacle})" if obstacle else ""
    logging.getLogger(__name__).info("backend is %s%s", choice, reason)


def _check_query(q: Tensor) -> None:
    if q.ndim != 4:
        raise ValueError(
            f"q has shape {list(q.shape)}: expected four axes [B, T, H, K], "
            "with tokens before heads"
        )
    if q.dtype not in DTYPES:
        raise ValueError(f"q has dtype {q.dtype}: expected one of {DTYPES}")
    if q.shape[1] == 0 or q.shape[3] == 0:
        raise ValueError(
            f"q has shape {list(q.shape)}: [B, T, H, K] needs at least one "
            "token (T) and one channel (K)"
        )


def _check_like(
    q: Tensor,
    name: str,
    x: Tensor,
    axes: str,
    shape: tuple[int, ...],
    dtypes: set[torch.dtype],
) -> None:
    """Compare with q: -1 in `shape` stands for any length."""
    fits = x.ndim == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, x.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if n == -1 else str(n) for n in shape)
        raise ValueError(
            f"{name} has shape {list(x.shape)}, but q has shape "
            f"{list(q.shape)}: {name} must be {axes} = [{wanted}]"
        )
    if x.dtype not in dtypes:
        allowed = " or ".join(sorted(str(d) for d in dtypes))
        raise ValueError(
            f"{name} has dtype {x.dtype}, but q has {q.dtype}: "
            f"pass {name} as {allowed}"
        )
    if x.device != q.device:
        raise ValueError(
            f"{name} is on {x.device}, but q is on {q.device}: "
            f"move {name} with .to(q.device)"
        )
