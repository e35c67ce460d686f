"""How large the tiles are, by the head's width and the dtype.

Chosen from what compiles for sm_80 and sm_90 without spills; no GPU has
timed them yet. What each compiles to is in the record `kernel_compile`:
python -m hagvig_lib.measure.experiments kernel_compile
"""

from typing import NamedTuple


class Configuration(NamedTuple):
    """Of a kernel for one width of head and one dtype.

    Attributes:
        chunk: tokens of a chunk, a power of two.
        block_v: columns of v that a program has, a power of two.
        warps: of a program.
    """

    chunk: int
    block_v: int
    warps: int


def configuration(
    kernel: str, K: int, V: int, element_size: int
) -> Configuration:
    """The choice for heads of K and V channels of `element_size` bytes."""
    return Configuration(32, min(padded(V), 64), 4)


def padded(width: int) -> int:
    """Width of a tile: a power of two that a tensor core takes."""
    return max(16, 1 << (width - 1).bit_length())
