"""What Triton's kernels read, write and compute, noted by the interpreter.

Set TRITON_INTERPRET=1 before Triton is imported. The methods replaced here
are Triton's own business and may change with a release; the test of this file
says so.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from torch import Tensor
from triton.runtime.interpreter import GridExecutor, interpreter_builder


class Event(NamedTuple):
    """What one program did, in one line of its kernel.

    Attributes:
        kernel: its name.
        program: its three indices.
        action: "load", "store", "product" of two tiles or "exponential".
        amount: bytes; of a product operations, two for each multiplication
            and its addition; of an exponential the numbers that have one.
        argument: name of the kernel's tensor; "" for arithmetic.
        indices: of the touched elements, an array for each axis.
    """

    kernel: str
    program: tuple[int, int, int]
    action: str
    amount: int
    argument: str = ""
    indices: tuple[np.ndarray, ...] = ()


@contextmanager
def listening() -> Iterator[list[Event]]:
    """A list to which kernels add what they do while it is open.

    What a mask leaves out is not noted. Of two arguments that share memory
    the first gets the event.

    Raises:
        InterpreterError: a program touches memory that belongs to none of
            its kernel's positional arguments; names them.
    """
    log, kernel, arguments = [], "", {}
    builder, launch = interpreter_builder, GridExecutor.__call__
    dot, exp = builder.create_dot, builder.create_exp

    def noted_launch(self, *args, **options):
        nonlocal kernel, arguments
        tensors = (x[0] if isinstance(x, tuple) else x for x in args)
        named = zip(self.arg_names, tensors, strict=False)
        arguments = {name: x for name, x in named if isinstance(x, Tensor)}
        kernel = self.fn.__name__
        return launch(self, *args, **options)

    def note(*what):
        log.append(Event(kernel, builder.grid_idx, *what))

    def noted_access(action, method, mask):
        def access(address, *rest):
            places = address.data[rest[mask].data.astype(bool)]
            if places.size:
                name, size, at = _owner(arguments, places.astype(np.int64))
                note(action, places.size * size, name, at)
            return method(address, *rest)

        return access

    def noted_dot(a, b, *rest):
        note("product", 2 * a.data.size * b.data.shape[1])
        return dot(a, b, *rest)

    def noted_exp(x):
        note("exponential", x.data.size)
        return exp(x)

    load = noted_access("load", builder.create_masked_load, 0)
    store = noted_access("store", builder.create_masked_store, 1)
    memory = {"create_masked_load": load, "create_masked_store": store}
    work = {"create_dot": noted_dot, "create_exp": noted_exp}
    started = patch.object(GridExecutor, "__call__", noted_launch)
    with started, patch.multiple(builder, **memory, **work):
        yield log


def _owner(arguments: dict[str, Tensor], places: np.ndarray):
    """Name of the argument there, bytes of an element, and the indices."""
    for name, x in arguments.items():
        rest = (places - x.data_ptr()) // x.element_size()
        found = [np.zeros_like(rest)] * x.dim()
        for axis in sorted(range(x.dim()), key=x.stride, reverse=True):
            if x.shape[axis] > 1:
                found[axis], rest = divmod(rest, x.stride(axis))
        ends = zip(found, x.shape, strict=True)
        if not rest.any() and all(((i >= 0) & (i < n)).all() for i, n in ends):
            return name, x.element_size(), tuple(found)
    raise ValueError(f"memory outside the arguments {', '.join(arguments)}")


def totals(log: list[Event]) -> dict[str, tuple[int, ...]]:
    """Programs, bytes, operations and exponentials, by kernel."""
    amounts, programs = Counter(), {}
    for event in log:
        what = "bytes" if event.argument else event.action
        amounts[event.kernel, what] += event.amount
        programs.setdefault(event.kernel, set()).add(event.program)
    kinds = "bytes", "product", "exponential"
    return {
        kernel: (len(who), *(amounts[kernel, kind] for kind in kinds))
        for kernel, who in programs.items()
    }
