"""Batches of data that fit into memory."""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map


class Batches:
    """Batches of tensors that are in memory, shuffled anew in each epoch.

    Args:
        inputs: a tensor, or a dict or tuple of tensors; frames first.
        targets: [N, ...].
        size: of a batch; the last one of an epoch may be smaller.
        seed: of the order.
    """

    def __init__(self, inputs: Any, targets: Tensor, size: int, seed: int):
        self.inputs, self.targets, self.size = inputs, targets, size
        self.order = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.targets) // self.size)

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        order = torch.randperm(len(self.targets), generator=self.order)
        for rows in order.split(self.size):
            inputs = tree_map(itemgetter(rows), self.inputs)
            yield inputs, self.targets[rows]
