"""What do the GLA kernels compile to? (chapter 11)

Every shipped configuration is compiled for compute capability 8.0 and 9.0,
which needs no GPU, and the assembler's report is read: registers of a thread,
bytes that did not fit into them and are spilled to memory, shared memory of a
program, and how often the code multiplies on tensor cores.

What would count, said beforehand: at most 64 bytes of spills in every row.
Anything else here is a fact about the code and no measure of its speed.
"""

import re
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource, compile
from triton.runtime import JITFunction

from ...gla.reference import empty_state
from ...gla.triton.backward import gradients_kernel, states_kernel
from ...gla.triton.forward import forward_kernel
from ...gla.triton.launch import Plan

KERNELS = {
    "forward": forward_kernel,
    "states": states_kernel,
    "gradients": gradients_kernel,
}
RUNS = [
    {
        "kernel": kernel,
        "K": K,
        "V": V,
        "dtype": dtype,
        "capability": capability,
    }
    for K, V in ((16, 32), (16, 64), (32, 64), (64, 64), (128, 128))
    for dtype in ("float32", "bfloat16", "float16")
    for kernel in KERNELS
    for capability in (80, 90)
]
SOURCES = ("gla/triton/*.py", "measure/studies/kernel_compile.py")
VIEWS = {"grad", "q", "k", "v", "log_gate_fwd", "log_gate_bwd"}
STATE_VIEWS = {"initial_state", "grad_final"}
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
}


def run(
    kernel: str,
    K: int,
    V: int,
    dtype: str,
    capability: int,
    gates: str | None = None,
    both: bool = True,
) -> dict[str, Any]:
    """Compile a kernel for one shape.

    Args:
        dtype: of q, k and v; float32 is multiplied as PyTorch is set to.
        gates: dtype of the gates, if another.
        both: both directions, or one with its states.

    Returns:
        `chunk`, `block_v` and `warps`, the configuration; `registers`,
        `spilled` (bytes, stored or loaded, whichever is more), `shared`
        (bytes) and `tensor_core` (instructions).

    Raises:
        RuntimeError: TRITON_INTERPRET=1 is set, or the assembler failed.
    """
    function = KERNELS[kernel]
    if not isinstance(function, JITFunction):
        raise RuntimeError("kernels are interpreted: unset TRITON_INTERPRET")
    q = torch.empty(1, 64, 1, K, dtype=getattr(torch, dtype), device="meta")
    v = q.new_empty(1, 64, 1, V)
    gate = q.to(getattr(torch, gates or dtype))
    sweep = "forward" if kernel == "forward" else "backward"
    plan = Plan(sweep, q, v, both, reverse=False)
    options = plan.score_options
    with warnings.catch_warnings():
        # Triton 3.9 announces another default of 3.10.
        warnings.filterwarnings("ignore", "TRITON_DEFAULT_FP_FUSION")
        code = compile(
            _source(function, plan, q, v, gate),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": options["num_warps"]},
        )
    report = _assemble(code.asm["ptx"], capability)
    return {
        "chunk": options["C"],
        "block_v": options["BLOCK_V"],
        "warps": options["num_warps"],
        "registers": int(re.findall(r"Used (\d+) registers", report)[0]),
        "spilled": max(map(int, re.findall(r"(\d+) bytes spill", report))),
        "shared": code.metadata.shared,
        "tensor_core": len(
            re.findall(r"(?:mma\.sync|wgmma\.mma_async)\.", code.asm["ptx"])
        ),
    }


def _source(
    function: JITFunction, plan: Plan, q: Tensor, v: Tensor, gate: Tensor
) -> ASTSource:
    """The kernel with the types that a launch on aligned tensors gives it."""
    state = None if plan.options["BOTH"] else empty_state(q, v)
    part, gate_part = plan.new_parts(q), plan.new_parts(gate)
    tensors = {"q": q, "k": q, "dq": part, "dk": part}
    tensors |= dict.fromkeys(("v", "grad", "output", "dv"), v)
    tensors |= dict.fromkeys(("log_gate_fwd", "log_gate_bwd"), gate)
    tensors |= dict.fromkeys(("dlog_gate_fwd", "dlog_gate_bwd"), gate_part)
    tensors |= dict.fromkeys((*STATE_VIEWS, "final_state"), state)
    tensors |= {"grad_initial": state, "copies": plan.new_tables(1)}
    values, aligned = plan.score_options | tensors, [["tt.divisibility", 16]]
    signature, constants, attributes = {}, {}, {}
    for i, name in enumerate(function.arg_names):
        if name in ("B", "T", "H", "scale"):
            signature[name] = "fp32" if name == "scale" else "i32"
        elif not isinstance(x := values[name], Tensor):  # None, too
            signature[name], constants[(i,)] = "constexpr", x
        elif name in VIEWS | STATE_VIEWS:  # pointer, strides, the last one 1
            strides = ("i32", "i32", "i32", "constexpr")
            signature[name] = (POINTERS[x.dtype], *strides)
            constants[i, 4] = 1
            attributes |= {(i, j): aligned for j in range(4)}
        else:
            signature[name] = POINTERS[x.dtype]
            attributes[(i,)] = aligned
    return ASTSource(function, signature, constants, attributes)


def _assemble(ptx: str, capability: int) -> str:
    """What ptxas says about a kernel."""
    suffix = "a" if capability == 90 else ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [get_ptxas(capability).path, "-v", f"-arch=sm_{capability}"]
        command[-1] += suffix
        result = subprocess.run(
            [*command, path, "-o", "/dev/null"], capture_output=True, text=True
        )
    if result.returncode:
        raise RuntimeError(f"ptxas failed: {result.stderr}")
    return result.stderr
