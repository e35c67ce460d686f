"""What `gla` accepts, and what it says about the rest."""

import logging
import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from .reference import accumulation_dtype

BACKENDS = ("auto", "chunkwise", "triton", "reference")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MOST_CHANNELS = 128  # of a head in the Triton kernels
AXES = {"v": "BTHV", "initial_state": "BHKV"}  # of the others "BTHK", as q


def check_arguments(
    backend: str, check: bool | None, q: Tensor, **others: Tensor | None
) -> None:
    """Refuse what does not fit together.

    Args:
        check: whether to read the gates' values, which synchronises; None
            for eager mode on the CPU only.
        others: the arguments beside q under their names, v before the state.

    Raises:
        ValueError: the backend is unknown, a shape, dtype or device is not
            what q asks for, or a gate is above 0; names the argument.
        NotImplementedError: a forward-mode derivative would be lost.
    """
    if backend not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise ValueError(f"backend is {backend!r}: choose one of {known}")
    if check is None:
        check = q.device.type == "cpu" and not torch.compiler.is_compiling()
    _check_query(q)
    tensors = {name: x for name, x in others.items() if x is not None}
    sizes = dict(zip("BTHK", q.shape, strict=True))
    for name, x in tensors.items():
        axes = AXES.get(name, "BTHK")
        _check_like(q, name, x, axes, sizes)
        sizes |= zip(axes, x.shape, strict=True)  # v brings V
        if check and name.startswith("log_gate"):
            _check_gate(name, x)
    for name, x in {"q": q, **tensors}.items():
        if backend != "reference" and unpack_dual(x).tangent is not None:
            # PyTorch's operators drop it: a derivative of 0, and no word.
            raise NotImplementedError(
                f"{name} carries the tangent of a forward-mode derivative "
                "(torch.func.jvp, jacfwd), which only the recurrence follows: "
                "pass backend='reference'"
            )


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
    q: Tensor, name: str, x: Tensor, axes: str, sizes: dict[str, int]
) -> None:
    """Compare with q; an axis that `sizes` lacks may have any length."""
    wanted = [sizes.get(axis, -1) for axis in axes]
    fits = x.ndim == len(wanted) and all(
        want in (-1, have) for want, have in zip(wanted, x.shape, strict=True)
    )
    if not fits:
        lengths = ", ".join("any" if n == -1 else str(n) for n in wanted)
        raise ValueError(
            f"{name} has shape {list(x.shape)}, but q has shape "
            f"{list(q.shape)}: {name} must be [{', '.join(axes)}] = "
            f"[{lengths}]"
        )
    dtypes = {q.dtype}
    if name not in ("k", "v"):
        dtypes.add(accumulation_dtype(q.dtype))
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


def _check_gate(name: str, log_gate: Tensor) -> None:
    """Name how many are above 0 or NaN, the largest, where, the remedy."""
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
