"""Checkers of chapter 8, How do you compute a recurrence with products?"""

import math

import torch

from . import Wrong


def join(answer) -> None:
    """8.1: two chunks' decays and writes as those of one chunk."""
    generator = torch.Generator().manual_seed(8)
    decays = torch.rand(3, 4, generator=generator).double()
    writes = torch.randn(3, 4, 5, generator=generator).double()
    first, second, third = zip(decays, writes, strict=True)
    decay, write = answer(first, second)
    if decay.shape != (4,) or write.shape != (4, 5):
        raise Wrong(
            "the pair for both chunks has the shapes of a single one, [K]"
            f" and [K, V]: here {[4]} and {[4, 5]}, not {list(decay.shape)}"
            f" and {list(write.shape)}"
        )
    if not torch.allclose(decay, decays[0] * decays[1]):
        raise Wrong(
            "decay is off: what stood there before is dimmed by the first"
            " chunk, and what is left of it by the second"
        )
    if not torch.allclose(write, decays[1, :, None] * writes[0] + writes[1]):
        raise Wrong(
            "write is off: which of the two writes lives through the other"
            " chunk, and whose decay does it meet there?"
        )
    left = answer(answer(first, second), third)
    right = answer(first, answer(second, third))
    if not all(map(torch.allclose, left, right)):
        raise Wrong("three chunks come out differently if joined from behind")


def leanest_chunk(answer) -> None:
    """8.2: the chunk for which scores and states need least memory."""
    for K, V in ((32, 64), (16, 32), (128, 128)):
        got = float(answer(K, V))
        if got <= 0:
            raise Wrong(f"a chunk of {got:.4g} tokens: a length is positive")
        best = math.sqrt(K * V)
        if not math.isclose(got, best, rel_tol=1e-6):
            raise Wrong(
                f"for K = {K}, V = {V} a chunk of {got:.4g} needs"
                f" {got + K * V / got:.4g} numbers per token; fewer are"
                " possible"
            )


def gate_gradient(answer) -> None:
    """8.3: sums over rectangles, with a diagonal that would drown them."""
    generator = torch.Generator().manual_seed(9)
    E = torch.rand(12, 12, generator=generator).tril(-1)
    gates = range(len(E))
    expected = torch.stack([E[m:, :m].double().sum() for m in gates])
    _compare(answer(E.clone()), expected, E)
    drowned = E + torch.diag(1e6 * (1 + E.sum(0)))
    got = answer(drowned.clone())
    if got.shape != expected.shape or not _close(got, expected):
        raise Wrong(
            "right on paper: but with a diagonal of a million the gradient"
            " is lost. What do you add that you subtract again?"
        )


def _compare(got, expected, E) -> None:
    if not isinstance(got, torch.Tensor) or got.shape != expected.shape:
        raise Wrong(f"one number per gate is wanted, a tensor [{len(E)}]")
    if _close(got, expected):
        return
    size = range(len(E))
    own_write = torch.stack([E[m:, : m + 1].sum() for m in size])
    own_read = torch.stack([E[m + 1 :, :m].sum() for m in size])
    if _close(got, own_write.double()):
        raise Wrong(
            "gate m dims what stood there before token m wrote: column m is"
            " not in its rectangle"
        )
    if _close(got, own_read.double()):
        raise Wrong(
            "token m reads behind its own gate: row m is in the rectangle"
        )
    if got[0] != 0:
        raise Wrong("nothing was written before the first gate: it gets 0")
    raise Wrong("gate m wants rows i >= m and columns j < m of E, summed")


def _close(got, expected) -> bool:
    return torch.allclose(got.double(), expected, rtol=1e-5, atol=1e-5)


EXERCISES = {1: join, 2: leanest_chunk, 3: gate_gradient}
