"""Gradient routing: gates and weights are trained in two separate passes.

Paper: arXiv 2407.04400 (abstract): the gates are updated by a forward and
backward pass of their own, before the weights. With weights θ, gates g,
losses L_g and L and plain gradient descent, a routed step is

    g' = g - lr_g ∂L_g(θ, g)/∂g        θ' = θ - lr ∂L(θ, g')/∂θ

Differs: the released loop (`runners/trainer.py`, lines 411-528, in
https://github.com/cosmoimd/feature-selection-gates/tree/8d0be63) clears
gradients once a batch, so that the first pass leaks into the second, and
clips all gradients where only one group has been unscaled.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten, tree_unflatten

from .gates.inspection import named_gates

Loss = Callable[[Any, Any], Tensor]


class RoutedLosses(NamedTuple):
    """Means over this process's batch, detached scalars.

    Attributes:
        gate: the gates' loss before the step.
        weight: the weights' loss at the new gates and the old weights.
    """

    gate: Tensor
    weight: Tensor


@dataclass(eq=False, repr=False)
class GradientRouter:
    """Steps the gates first, then the weights at the new gates.

    Neither half touches the other group, frozen parameters stay frozen,
    and batch-norm statistics move in the second pass only (those of an
    instance norm, which always uses its input's, in both). After a step
    `.grad` of the weights is that of the second pass, the gates' is None.

    A data-parallel engine is unwrapped for the first pass, and the gates'
    gradients are then averaged over its processes, which need batches of
    one size. Compile the model inside the engine, or the first pass runs
    uncompiled. FSDP is not supported.

    Args:
        model: has gates; may be wrapped by `torch.compile`, DataParallel
            or DistributedDataParallel.
        weight_optimizer: holds every trainable parameter that is no gate.
        gate_optimizer: holds every trainable gate; give it no weight decay.
        loss: (outputs, targets) -> mean over the batch, for the weights.
        gate_loss: the same for the gates; `loss` if None.
        clip_weights, clip_gates: largest gradient norm of each group.
        accumulate: micro-batches that a batch is cut into. The result is
            that of the whole batch where the loss is a plain mean and no
            batch norm learns.
        share_dropout: both passes draw the same random numbers.
        autocast: dtype of mixed precision, bfloat16 or float16. float16
            gets one gradient scaler per group.

    Raises:
        ValueError: no gates, a trainable parameter in neither optimizer, a
            parameter in both or in the wrong one; or an option's value.
    """

    model: nn.Module
    weight_optimizer: Optimizer
    gate_optimizer: Optimizer
    loss: Loss
    gate_loss: Loss | None = None
    clip_weights: float | None = None
    clip_gates: float | None = None
    accumulate: int = 1
    share_dropout: bool = False
    autocast: torch.dtype | None = None

    def __post_init__(self):
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}: at least 1")
        if self.autocast not in (None, torch.bfloat16, torch.float16):
            raise ValueError(f"autocast is {self.autocast}: give a half dtype")
        self._inner, self._engine = _unwrap(self.model)
        _check_groups(self._inner, self.weight_optimizer, self.gate_optimizer)
        self._device = next(self._inner.parameters()).device.type
        scaled = self.autocast == torch.float16
        self.gate_scaler = GradScaler(self._device, enabled=scaled)
        self.weight_scaler = GradScaler(self._device, enabled=scaled)

    def step(self, inputs: Any, targets: Any) -> RoutedLosses:
        """One routed step on this process's whole batch.

        Args:
            inputs: what the model takes, a tensor or a dict or tuple of
                tensors, each with the batch first.
            targets: what the losses take, likewise.

        Raises:
            ValueError: the batch is empty, has tensors of several lengths
                or fewer rows than `accumulate`; or all gates are frozen,
                or all weights.
        """
        batches = _split(inputs, targets, self.accumulate)
        gates = _trainable(self.gate_optimizer)
        weights = _trainable(self.weight_optimizer)
        self.gate_optimizer.zero_grad()
        self.weight_optimizer.zero_grad()
        gpus = {p.device for p in weights if p.is_cuda}
        fork = torch.random.fork_rng(gpus, self.share_dropout)
        with fork, _held_still(weights, self._inner):
            loss, scaler = self.gate_loss or self.loss, self.gate_scaler
            gate = self._backward(self._inner, loss, scaler, batches)
        if self._engine:
            _average(gates, self._engine.process_group)
        _update(self.gate_optimizer, scaler, self.clip_gates)
        # The gates stay on: an engine waits for a gradient of everything.
        loss, scaler = self.loss, self.weight_scaler
        weight = self._backward(self.model, loss, scaler, batches)
        self.gate_optimizer.zero_grad()  # nobody meant that one
        _update(self.weight_optimizer, scaler, self.clip_weights)
        return RoutedLosses(gate, weight)

    _OWN = "gate_optimizer", "gate_scaler", "weight_scaler"

    def state_dict(self) -> dict[str, Any]:
        """The gate optimizer and both scalers; save the others yourself."""
        return {name: getattr(self, name).state_dict() for name in self._OWN}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self._OWN:
            getattr(self, name).load_state_dict(state[name])

    def _backward(
        self, model: nn.Module, loss: Loss, scaler: GradScaler, batches: list
    ) -> Tensor:
        """Add the gradients of the mean loss to `.grad`; return it."""
        values = []
        cast = nullcontext()  # leaves a caller's autocast alone
        if self.autocast:
            cast = torch.autocast(self._device, self.autocast)
        wait = self._engine.no_sync if self._engine else nullcontext
        for share, inputs, targets in batches:
            last = len(values) == len(batches) - 1
            with nullcontext() if last else wait():
                with cast:
                    value = share * loss(model(inputs), targets)
                scaler.scale(value).backward()
            values.append(value.detach())
        return torch.stack(values).sum()


def _unwrap(model: nn.Module) -> tuple[nn.Module, Any]:
    """The module inside an engine, and the engine if it synchronises."""
    engine = getattr(model, "_orig_mod", model)  # compiled from outside
    if isinstance(engine, DistributedDataParallel):
        return engine.module, engine
    return engine.module if isinstance(engine, DataParallel) else model, None


def _check_groups(model: nn.Module, for_weights: Optimizer, for_gates) -> None:
    """Is every trainable parameter in its own optimizer and no other?"""
    gates = {gate.logits for gate in named_gates(model).values()}
    held = {"weight": {*_held(for_weights)}, "gate": {*_held(for_gates)}}
    for name, parameter in model.named_parameters():
        kind = "gate" if parameter in gates else "weight"
        found = [k for k in held if parameter in held[k]]
        if found != [kind] and (found or parameter.requires_grad):
            raise ValueError(
                f"the {kind} {name} is in {' and '.join(found) or 'no'} "
                f"optimizer: put it into {kind}_optimizer only, or freeze it"
            )


def _held(optimizer: Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _trainable(optimizer: Optimizer) -> list[nn.Parameter]:
    trainable = [p for p in _held(optimizer) if p.requires_grad]
    if not trainable:
        raise ValueError("all gates or all weights are frozen: do not route")
    return trainable


def _split(inputs: Any, targets: Any, parts: int) -> list:
    """[(share of the batch, inputs, targets)] of each micro-batch."""
    tensors, structure = tree_flatten((inputs, targets))
    rows = {len(tensor) for tensor in tensors}
    if len(rows) != 1 or min(rows) < parts:
        raise ValueError(
            f"inputs and targets have {sorted(rows)} rows: give all of them "
            f"the same number, and at least accumulate={parts}"
        )
    pieces = zip(*(t.tensor_split(parts) for t in tensors), strict=True)
    return [
        (len(piece[0]) / len(tensors[0]), *tree_unflatten(piece, structure))
        for piece in pieces
    ]


@contextmanager
def _held_still(weights: list[nn.Parameter], model: nn.Module) -> Iterator:
    """Neither the weights nor batch-norm statistics learn in here."""
    switches: list[tuple[Any, str]] = [(w, "requires_grad") for w in weights]
    for module in model.modules():
        # In training, a norm without them uses the batch and keeps nothing.
        if module.training and getattr(module, "track_running_stats", False):
            switches.append((module, "track_running_stats"))
    try:
        for owner, switch in switches:
            setattr(owner, switch, False)
        yield
    finally:
        for owner, switch in switches:
            setattr(owner, switch, True)


def _average(gates: list[nn.Parameter], group: Any) -> None:
    """Average the gates' gradients over the processes of a group."""
    # Without a gradient here, another process may still have one; a gate
    # that no process has used keeps none, or its optimizer would move it.
    used = [float(gate.grad is not None) for gate in gates]
    users = torch.tensor(used, device=gates[0].device)
    dist.all_reduce(users, group=group)
    for gate, count in zip(gates, users.tolist(), strict=True):
        if count:
            total = torch.zeros_like(gate) if gate.grad is None else gate.grad
            dist.all_reduce(total, group=group)
            gate.grad = total / dist.get_world_size(group)


def _update(optimizer: Optimizer, scaler: GradScaler, clip: float | None):
    """Unscale, clip and step one group, and nothing else."""
    scaler.unscale_(optimizer)
    if clip is not None:
        nn.utils.clip_grad_norm_(_held(optimizer), clip)
    scaler.step(optimizer)
    scaler.update()
