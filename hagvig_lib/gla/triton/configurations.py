"""How the tiles are cut, by the width of a head and the size of its numbers.

Chosen from what compiles with at most 64 bytes of spills for capability 8.0
and 9.0; no GPU has timed them yet. The command that compiles them all again
and records registers, spills and shared memory:

python -m hagvig_lib.measure.experiments kernel_compile
"""

from typing import NamedTuple


class Configuration(NamedTuple):
    """Of a kernel for one width of heads and one dtype.

    Attributes:
        chunk: tokens of a chunk, a power of two.
        block_v: columns of v that a program has at most, a power of two;
            wider heads are cut into slices.
        warps: of a program.
    """

    chunk: int
    block_v: int
    warps: int


# Channels of q and k that meet at a time: with more, registers overflow.
BLOCK_K = 32

# (sweep, K, bytes of a number); K padded to a power of two.
TABLE = {
    ("forward", 16, 2): Configuration(32, 64, 4),
    ("forward", 32, 2): Configuration(32, 64, 8),
    ("forward", 64, 2): Configuration(16, 32, 4),
    ("forward", 128, 2): Configuration(16, 32, 8),
    ("forward", 16, 4): Configuration(32, 32, 8),
    ("forward", 32, 4): Configuration(32, 32, 8),
    ("forward", 64, 4): Configuration(16, 32, 8),
    ("forward", 128, 4): Configuration(16, 16, 8),
    ("backward", 16, 2): Configuration(32, 32, 4),
    ("backward", 32, 2): Configuration(16, 64, 4),
    ("backward", 64, 2): Configuration(16, 32, 4),
    ("backward", 128, 2): Configuration(16, 32, 4),
    ("backward", 16, 4): Configuration(16, 32, 8),
    ("backward", 32, 4): Configuration(16, 16, 8),
    ("backward", 64, 4): Configuration(16, 16, 8),
    ("backward", 128, 4): Configuration(16, 16, 8),
}


def configuration(sweep: str, K: int, V: int, size: int) -> Configuration:
    """The row for heads of K and V channels, numbers of `size` bytes."""
    row = TABLE[sweep, padded(K), size]
    return row._replace(block_v=min(row.block_v, padded(V)))


def padded(width: int) -> int:
    """Width of a tile: a power of two that a tensor core takes."""
    return max(16, 1 << (width - 1).bit_length())
