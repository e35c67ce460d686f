"""The training loop, on Hugging Face Accelerate: one process or many."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import length_hint
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..routing import GradientRouter

Loss = Callable[[Any, Any], Tensor]
Step = Callable[[Any, Any], dict[str, Tensor]]


def fit(
    model: nn.Module,
    batches: Iterable,
    loss: Loss,
    *,
    epochs: int,
    weight_optimizer: Optimizer,
    gate_optimizer: Optimizer | None = None,
    routed: bool = True,
    gate_loss: Loss | None = None,
    clip_weights: float | None = None,
    clip_gates: float | None = None,
    schedules: Sequence[LRScheduler] = (),
    each_epoch: Callable[[nn.Module], Mapping[str, float]] | None = None,
    accelerator: Accelerator | None = None,
    quiet: bool = False,
) -> pd.DataFrame:
    """Train a model in place.

    Without a gate optimizer each batch is one pass, and trains whatever
    the weight optimizer holds. With one it is two passes, as in the paper,
    or with `routed=False` one pass whose gradients both optimizers use.

    Args:
        model: set to training mode, all of it.
        batches: of (inputs, targets); gone through once per epoch. With
            several processes, a DataLoader, which is then shared out.
        loss: (outputs, targets) -> scalar, the mean over the batch.
        gate_loss: of the gates' own pass, where it differs.
        clip_weights, clip_gates: largest gradient norm of each optimizer's
            parameters.
        schedules: of learning rates; each moves after every batch.
        each_epoch: model, in evaluation mode -> values for the history.
        quiet: no progress bar.

    Returns:
        A row per epoch: epoch, loss (mean over the batches, while they
        were trained on), gate_loss where routed, and what `each_epoch`
        gave.

    Raises:
        ValueError: no batches in an epoch, a gate loss without routing, a
            limit for gates without their optimizer, an accelerator that
            accumulates gradients, or several processes and no DataLoader.
        FloatingPointError: a loss is not finite; names the epoch.
    """
    accelerator = accelerator or Accelerator()
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            "gradient_accumulation_steps is "
            f"{accelerator.gradient_accumulation_steps}: a step is taken "
            "after every batch, give larger batches"
        )
    if gate_loss is not None and not (routed and gate_optimizer):
        raise ValueError("gate_loss: one pass has one loss; route, or drop it")
    if clip_gates is not None and gate_optimizer is None:
        raise ValueError("clip_gates: there is no gate_optimizer to clip for")
    shared = _shared_out(batches, accelerator)
    engine = accelerator.prepare_model(model)
    optimizers = {weight_optimizer: clip_weights}
    if gate_optimizer is not None:
        optimizers[gate_optimizer] = clip_gates
    if routed and gate_optimizer is not None:
        # Accelerate's model brings its own bfloat16; the loss scale of
        # float16 has to be the router's, one per group.
        half = accelerator.mixed_precision == "fp16"
        router = GradientRouter(
            engine,
            weight_optimizer,
            gate_optimizer,
            loss,
            gate_loss=gate_loss,
            clip_weights=clip_weights,
            clip_gates=clip_gates,
            autocast=torch.float16 if half else None,
        )
        step = _two_passes(router)
    else:
        step = _one_pass(accelerator, engine, optimizers, loss)

    model.train()
    history = []
    total = epochs * length_hint(shared) or None
    silent = quiet or not accelerator.is_main_process
    try:
        with tqdm(total=total, disable=silent, unit="batch") as bar:
            for epoch in range(1, epochs + 1):
                losses = []
                for batch in shared:
                    inputs, targets = send_to_device(batch, accelerator.device)
                    losses.append(step(inputs, targets))
                    for schedule in schedules:
                        schedule.step()
                    bar.update()
                row = {"epoch": epoch} | _mean(losses, epoch)
                bar.set_postfix(row)
                if each_epoch is not None:
                    with _evaluating(model):
                        row |= each_epoch(model)
                history.append(row)
    finally:  # else the model goes on in half precision
        accelerator.unwrap_model(engine, keep_fp32_wrapper=False)
    return pd.DataFrame(history)


@torch.no_grad()
def predict(
    model: nn.Module,
    batches: Iterable,
    accelerator: Accelerator | None = None,
) -> Tensor:
    """The model's outputs in evaluation mode, [N, ...], on the CPU.

    Args:
        batches: of (inputs, targets), as for `fit`, in a fixed order; with
            several processes, a DataLoader over the whole data set.

    Raises:
        ValueError: several processes and no such DataLoader.
    """
    accelerator = accelerator or Accelerator()
    shared = _shared_out(batches, accelerator, whole=True)
    model.to(accelerator.device)
    outputs = []
    with _evaluating(model):
        for inputs, _ in shared:
            output: Any = model(send_to_device(inputs, accelerator.device))
            # Counts the data set's rows, so not where a sampler picks some.
            if accelerator.num_processes > 1:
                output = accelerator.gather_for_metrics(output)
            outputs.append(output.cpu())
    return torch.cat(outputs)


def _shared_out(
    batches: Iterable, accelerator: Accelerator, whole: bool = False
) -> Iterable:
    """This process's part of the batches."""
    if isinstance(batches, DataLoader):
        rows = length_hint(batches.sampler), length_hint(batches.dataset)
        if not whole or accelerator.num_processes == 1 or rows[0] == rows[1]:
            return accelerator.prepare_data_loader(batches)
    elif accelerator.num_processes == 1:
        return batches
    raise ValueError(
        f"batches is a {type(batches).__name__}: several processes share out "
        "a DataLoader, for predictions one over the whole data set"
    )


def _two_passes(router: GradientRouter) -> Step:
    def step(inputs, targets):
        losses = router.step(inputs, targets)
        return {"loss": losses.weight, "gate_loss": losses.gate}

    return step


def _one_pass(
    accelerator: Accelerator,
    model: nn.Module,
    limits: dict[Optimizer, float | None],
    loss: Loss,
) -> Step:
    # Accelerate has one for float16; one update serves both optimizers.
    scaler = accelerator.scaler or GradScaler(enabled=False)

    def step(inputs, targets):
        model.zero_grad()  # of all parameters, in an optimizer or not
        for optimizer in limits:  # which may hold more than the model's
            optimizer.zero_grad()
        value = loss(model(inputs), targets)
        accelerator.backward(value)
        for optimizer, limit in limits.items():
            scaler.unscale_(optimizer)
            if limit is not None:
                own = [p for g in optimizer.param_groups for p in g["params"]]
                nn.utils.clip_grad_norm_(own, limit)
            scaler.step(optimizer)
        scaler.update()
        return {"loss": value.detach()}

    return step


def _mean(losses: list[dict[str, Tensor]], epoch: int) -> dict[str, float]:
    if not losses:
        raise ValueError(
            f"batches: none in epoch {epoch}; a generator can be gone "
            "through only once, give a list, Batches or a DataLoader"
        )
    mean = {
        name: torch.stack([batch[name] for batch in losses]).mean()
        for name in losses[0]
    }
    for name, value in mean.items():
        if not value.isfinite():
            raise FloatingPointError(
                f"{name} is {value.item()} in epoch {epoch}: lower the "
                "learning rate, or look for a target that is no number"
            )
    return {name: value.item() for name, value in mean.items()}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
