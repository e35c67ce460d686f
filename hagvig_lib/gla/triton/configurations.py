"""How large the tiles are, by the head's width and the dtype.

Chosen from what compiles for sm_80 and sm_90 without spills; no GPU has
timed them yet. What each compiles to is in the record `kernel_compile`:
python -m hagvig_lib.measure.experiments kernel_compile
"""

from typing import NamedTuple


class Configuration(NamedTuple):
    """Of one kernel for one width and dtype.

    Attributes:
        chunk: tokens of a chunk, a power of two.
        block_v: columns of v that a program has, a power of two.
        warps: of a program.
        stages: of the loads in flight.
    """

    chunk: int
    block_v: int
    warps: int
    stages: int


def configuration(kernel: str, block_k: int, block_v: int, bytes: int):
    return Configuration(32, min(block_v, 64), 4, 1)
