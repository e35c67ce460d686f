"""A group of heads: scores inside chunks, states between them, gradients."""

from collections.abc import Mapping
from functools import reduce
from math import ceil

import torch
from torch import Tensor

from .decay import Direction, base_block, diagonal_blocks
from .reference import accumulation_dtype


class Group:
    """Some heads of some examples: N sequences in G chunks of C tokens.

    Args:
        where: which examples and heads.
        q, k, v, log_gates, initial_state: the whole tensors, [B, T, H, ...]
            and [B, H, K, V]; gates by direction, False forward and True
            backward.

    Attributes:
        final: by direction, [N, K, V], the state after the last token.
    """

    def __init__(
        self,
        where: tuple[slice, slice],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_gates: Mapping[bool, Tensor],
        initial_state: Tensor | None,
    ):
        self.where, self.tokens = where, q.shape[1]
        # 32 and 64 were fastest on a CPU. An even length needs less padding,
        # but strong gates ask for halves of halves.
        longest = 64 if self.tokens > 256 else 32
        even = 2 * ceil(self.tokens / 2 / ceil(self.tokens / longest))
        power = min(longest, 1 << (self.tokens - 1).bit_length())
        for self.chunk in dict.fromkeys((even, power)):
            self.chunks = ceil(self.tokens / self.chunk)
            gates = {reverse: self._cut(g) for reverse, g in log_gates.items()}
            base = base_block(gates.values(), self.chunk)
            if base == self.chunk:
                break
        self.q, self.k, self.v = (self._cut(x) for x in (q, k, v))
        self.directions = {
            reverse: Direction(self.q, self.k, gate, reverse, base)
            for reverse, gate in gates.items()
        }
        self.scores = self._scores(base)
        self.entering, self.final = {}, {}
        start = None if initial_state is None else initial_state[where]
        for reverse, direction in self.directions.items():
            self.entering[reverse], self.final[reverse] = self._carry(
                direction.write.mT @ self.v, direction.through, start, reverse
            )

    def output(self) -> Tensor:
        """Before scaling, [G, C, V]."""
        output = self.scores @ self.v
        for reverse, direction in self.directions.items():
            output.baddbmm_(direction.read, self.entering[reverse])
        return output

    def gradients(
        self, grad: Tensor, grad_state: Tensor | None, scale: float
    ) -> tuple[list[Tensor], dict[bool, Tensor]]:
        """Of q, k, v and each gate; of the initial state by direction.

        Args:
            grad: [B, T, H, V], of the output.
            grad_state: [B, H, K, V], of the final state.

        Returns:
            [G, C, K], [G, C, V] and [N, K, V].
        """
        grad = self._cut(grad).mul_(scale)
        end = None if grad_state is None else grad_state[self.where]
        dscores, dv = grad @ self.v.mT, self.scores.mT @ grad
        # Here the pairs i = j, which no gate decays.
        own = dscores.diagonal(0, 1, 2)[..., None] * len(self.directions)
        dq, dk, dgates, dstart = own * self.k, own * self.q, [], {}
        for reverse, direction in self.directions.items():
            # Gradients of states run the other way, by the same gates.
            leaving, dstart[reverse] = self._carry(
                direction.read.mT @ grad, direction.through, end, not reverse
            )
            entering = self.entering[reverse]
            dv.baddbmm_(direction.write, leaving)
            from_q, from_k, dgate = direction.gradients(
                dscores,
                grad @ entering.mT,
                self.v @ leaving.mT,
                (entering * leaving).sum(2).mul_(direction.through),
            )
            dq += from_q
            dk += from_k
            dgates.append(dgate)
        return [dq, dk, dv, *dgates], dstart

    def put(self, part: Tensor, whole: Tensor, scale: float = 1.0) -> None:
        """Write scale * [G, C, X] to its place in [B, T, H, X]."""
        place = whole[self.where[0], :, self.where[1]].transpose(1, 2)
        batch, heads, tokens, channels = place.shape
        part = part.view(batch, heads, self.chunks * self.chunk, channels)
        torch.mul(part[:, :, :tokens], scale, out=place)

    def put_state(self, part: Tensor, whole: Tensor) -> None:
        """Write [N, K, V] to its place in [B, H, K, V]."""
        place = whole[self.where]
        place.copy_(part.view(place.shape))

    def _cut(self, x: Tensor) -> Tensor:
        """[B, T, H, X] -> [G, C, X], zeros after the last token: one copy."""
        x = x[self.where[0], :, self.where[1]].transpose(1, 2)
        batch, heads, tokens, channels = x.shape
        cut = torch.empty(
            (batch, heads, self.chunks * self.chunk, channels),
            dtype=accumulation_dtype(x.dtype),
            device=x.device,
        )
        cut[:, :, :tokens] = x
        cut[:, :, tokens:] = 0
        return cut.view(batch * heads * self.chunks, self.chunk, channels)

    def _scores(self, base: int) -> Tensor:
        """[G, C, C], all directions in one; the diagonal counts in each."""
        parts = [x.blocks.scores for x in self.directions.values()]
        inside = reduce(Tensor.add_, parts)
        if base < self.chunk:
            scores = inside.new_zeros(len(self.q), self.chunk, self.chunk)
            place = diagonal_blocks(scores, base)
            place.copy_(inside.view(place.shape))
        else:
            scores = inside
        for direction in self.directions.values():
            direction.grow(scores)
        return scores

    def _carry(
        self,
        writes: Tensor,
        through: Tensor,
        start: Tensor | None,
        reverse: bool,
    ) -> tuple[Tensor, Tensor]:
        """Chunk after chunk: state <- through * state + write.

        Args:
            writes: [G, K, V].
            through: [G, K].
            start: the state before the first chunk visited, zero if None.

        Returns:
            States that enter the chunks [G, K, V], and the last [N, K, V].
        """
        entering = torch.empty_like(writes)
        last = writes.new_empty(len(writes) // self.chunks, *writes.shape[1:])
        states, steps, decays = (
            x.unflatten(0, (-1, self.chunks)).unbind(1)[
                :: -1 if reverse else 1
            ]
            for x in (entering, writes, through[..., None])
        )
        if start is None:
            states[0].zero_()
        else:
            states[0].copy_(start.reshape(last.shape))
        targets = (*states[1:], last)
        for step, decay, state, target in zip(
            steps, decays, states, targets, strict=True
        ):
            torch.addcmul(step, decay, state, out=target)
        return entering, last
