"""Decay between the tokens of a chunk.

Token i reads token j with the product of the gates between them. Blocks of
tokens can share a matrix product only if that decay splits into a factor for
q and a factor for k, at a point between i and j:

- two neighbouring blocks split it at their boundary. Both factors are
  products of gates, nothing is divided or subtracted: any gate is exact,
  -inf too. Blocks double until they fill the chunk (`Direction`);
- a base block splits it at its own middle. Beyond the middle a factor is
  larger than 1, so `base_block` looks at the gates first (`Factorised`).
  A base block of one token has nothing to split (`SingleTokens`).

Shapes: G chunks of C tokens with K channels.
"""

from collections.abc import Collection

import torch
from torch import Tensor

# No factor exceeds exp(8) = 3e3. Gates add up to at most 16, of which float32
# rounds off 5e-7; a decay comes from two such sums. One strong gate among weak
# ones keeps its own gradient to about exp(8) eps = 4e-4.
LIMIT = 8.0


def base_block(log_gates: Collection[Tensor], chunk: int) -> int:
    """Longest of chunk, chunk / 4, ..., 1 whose halves decay little enough.

    Args:
        log_gates: each [G, C, K].
        chunk: C, even or 1. Only powers of two are divided before the 1.
    """
    block = chunk
    while block > 1:
        halves = (g.unflatten(1, (-1, block // 2)).sum(2) for g in log_gates)
        if all(h.amin() > -LIMIT for h in halves):
            return block
        block = block // 4 if chunk.bit_count() == 1 else 1
    return 1


class SingleTokens:
    """Base blocks of one token; arguments and results of `Factorised`."""

    def __init__(self, q: Tensor, k: Tensor, log_gate: Tensor, _: bool):
        self.q, self.k, self.gate = q, k, log_gate.exp()
        self.read, self.write = q * self.gate, k.clone()
        self.through = self.gate[:, 0]
        self.scores = (q * k).sum(-1, keepdim=True)

    def gradients(
        self, dscores: Tensor, dread: Tensor, dwrite: Tensor, dthrough: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `Factorised.gradients` returns; no pair, so no dscores."""
        dread = dread * self.gate
        return dread, dwrite, torch.addcmul(dthrough[:, None], self.q, dread)


class Factorised:
    """Base blocks whose decay is split at their middle.

    Args:
        q, k, log_gate: [blocks, c, K].
        reverse: the state visits the last token first.

    Attributes:
        read: [blocks, c, K], q times the gates from the block's entry.
        write: [blocks, c, K], k times the gates to the block's exit.
        through: [blocks, K], the product of all gates.
        scores: [blocks, c, c], zero unless i = j or i has visited j.
    """

    def __init__(self, q: Tensor, k: Tensor, log_gate: Tensor, reverse: bool):
        total = log_gate.cumsum(1)
        middle = total[:, log_gate.shape[1] // 2 - 1, None].clone()
        rest = total[:, -1:] - middle
        self.through = total[:, -1].exp()
        if reverse:
            total = torch.sub(log_gate, total).add_(middle)
            middle, rest = rest, middle
        else:
            total -= middle
        self.reverse = reverse
        self.enter, self.leave = middle.exp(), rest.exp()
        self.decay = total.exp_()
        self.q, self.k = q * self.decay, k / self.decay
        self.read, self.write = self.q * self.enter, self.k * self.leave
        # Products with masks, as triu_() takes several times as long.
        ones = self.q.new_ones(2 * self.q.shape[1:2])
        mask = torch.triu if reverse else torch.tril
        self.pairs = mask(ones, 1 if reverse else -1)
        self.scores = (self.q @ self.k.mT).mul_(mask(ones))

    def gradients(
        self, dscores: Tensor, dread: Tensor, dwrite: Tensor, dthrough: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and log_gate, without the pairs i = j.

        A gate scales what has come in before it: <state, dstate> at the
        block's entry, less what was read and plus what was written since.

        Args:
            dscores, dread, dwrite: shaped like the attributes; the last two
                are overwritten.
            dthrough: [blocks, K], gradient of the logarithm of `through`.
        """
        dscores = dscores * self.pairs
        dq, dk = dread.mul_(self.enter), dwrite.mul_(self.leave)
        ends = (self.k, dk) if self.reverse else (self.q, dq)
        edge = torch.linalg.vecdot(*ends, dim=1).add_(dthrough)[:, None]
        dq.baddbmm_(dscores, self.k)
        dk.baddbmm_(dscores.mT, self.q)
        change = (self.q * dq).addcmul_(self.k, dk, value=-1)
        since = change.cumsum(1)
        dlog_gate = since if self.reverse else change.sub_(since)
        dlog_gate += edge
        return dq.mul_(self.decay), dk.div_(self.decay), dlog_gate


class Direction:
    """One direction's decay inside chunks, grown from base blocks.

    Args:
        q, k, log_gate: [G, C, K].
        reverse: the state visits the last token first.
        base: tokens in a base block, from `base_block`.

    Attributes:
        read, write, through: as in `Factorised`, of whole chunks.
    """

    def __init__(
        self, q: Tensor, k: Tensor, log_gate: Tensor, reverse: bool, base: int
    ):
        # Of two neighbouring blocks, the second one reads the first one.
        self.first, self.second = (1, 0) if reverse else (0, 1)
        self.base, self.levels = base, []
        kind = Factorised if base > 1 else SingleTokens
        shape = (-1, base, q.shape[2])
        self.blocks = kind(
            q.view(shape), k.view(shape), log_gate.view(shape), reverse
        )
        self.read = self.blocks.read.view_as(q)
        self.write = self.blocks.write.view_as(k)
        self.through = self.blocks.through.view(len(q), -1, q.shape[2])

    def grow(self, scores: Tensor) -> None:
        """Join blocks up to the chunk; fill in their scores [G, C, C]."""
        length = self.base
        while length < scores.shape[1]:
            read = self._half(self.read, length, self.second)
            write = self._half(self.write, length, self.first)
            through = self.through.unflatten(1, (-1, 2))
            self._between(scores, length).copy_(read @ write.mT)
            self.levels.append((length, read.clone(), write.clone(), through))
            read *= through[:, :, self.first, None]
            write *= through[:, :, self.second, None]
            self.through = through.prod(2)
            length *= 2
        self.through = self.through[:, 0]

    def gradients(
        self, dscores: Tensor, dread: Tensor, dwrite: Tensor, dthrough: Tensor
    ) -> tuple[Tensor, ...]:
        """Gradients of q, k and log_gate, without the pairs i = j.

        Way back down from chunks to base blocks. Whatever crosses a block is
        added to the gradient of its gates: no differences of large sums.

        Args:
            dscores: [G, C, C].
            dread, dwrite: [G, C, K], overwritten.
            dthrough: [G, K], gradient of the logarithm of `through`.
        """
        dthrough = dthrough[:, None]
        for length, read, write, through in reversed(self.levels):
            dpairs = self._between(dscores, length)
            dreads = self._half(dread, length, self.second)
            dwrites = self._half(dwrite, length, self.first)
            dreads *= through[:, :, self.first, None]
            dwrites *= through[:, :, self.second, None]
            crossing = (read * dreads).sum(2), (write * dwrites).sum(2)
            both = (crossing[self.first], crossing[self.second])
            dthrough = dthrough[:, :, None] + torch.stack(both, 2)
            dthrough = dthrough.flatten(1, 2)
            dreads += dpairs @ write
            dwrites += dpairs.mT @ read
        shape = (-1, self.base, dread.shape[2])
        gradients = self.blocks.gradients(
            diagonal_blocks(dscores, self.base).flatten(0, 1),
            dread.view(shape),
            dwrite.view(shape),
            dthrough.flatten(0, 1),
        )
        return tuple(x.view_as(dread) for x in gradients)

    def _half(self, x: Tensor, length: int, half: int) -> Tensor:
        """[G, C, K] -> [G, pairs, length, K]: one block of each pair."""
        return x.unflatten(1, (-1, 2, length))[:, :, half]

    def _between(self, scores: Tensor, length: int) -> Tensor:
        """[G, C, C] -> [G, pairs, length, length]: second block x first."""
        pairs = diagonal_blocks(scores, 2 * length)
        pairs = pairs.unflatten(2, (2, -1)).unflatten(4, (2, -1))
        return pairs[:, :, self.second, :, self.first]


def diagonal_blocks(scores: Tensor, length: int) -> Tensor:
    """[G, C, C] -> [G, C / length, length, length], a view."""
    tiles = scores.unflatten(2, (-1, length)).unflatten(1, (-1, length))
    return tiles.diagonal(0, 1, 3).movedim(-1, 1)
