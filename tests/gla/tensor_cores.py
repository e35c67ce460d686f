"""Triton's interpreter, made to round as a GPU does.

The interpreter forms all products in float32, but multiplies the bit patterns
of bfloat16 and cuts where it converts to it. Here operands are rounded as the
kernel asks: tf32 keeps 11 bits of each, bfloat16 8. Sums stay float32.
"""

import numpy as np
from triton._C.libtriton.ir import INPUT_PRECISION
from triton.language import bfloat16
from triton.runtime.interpreter import TensorHandle, interpreter_builder

_cast = interpreter_builder.cast_impl


def install(monkeypatch):
    monkeypatch.setattr(interpreter_builder, "create_dot", _dot)
    monkeypatch.setattr(interpreter_builder, "cast_impl", _rounding_cast)


def _dot(a, b, accumulator, precision, *_):
    total = accumulator.data + _operand(a, precision) @ _operand(b, precision)
    return TensorHandle(total, accumulator.dtype.scalar)


def _operand(x, precision):
    if x.dtype.scalar == bfloat16:
        return (x.data.astype(np.uint32) << 16).view(np.float32)
    return (
        _rounded(x.data, 13) if precision == INPUT_PRECISION.TF32 else x.data
    )


def _rounding_cast(x, dtype):
    if dtype.scalar == bfloat16:
        x = TensorHandle(_rounded(x.data, 16), x.dtype)
    return _cast(x, dtype)


def _rounded(x, bits):
    """float32 without its last bits: to the nearest, of two to the even."""
    x = np.ascontiguousarray(x, np.float32).view(np.uint32)
    half = (1 << (bits - 1)) - 1 + ((x >> bits) & 1)
    return ((x + half.astype(np.uint32)) >> bits << bits).view(np.float32)
