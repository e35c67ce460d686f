"""The loop trains what it says, the way it says."""

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from hagvig_lib.gates import (
    HardAttentionGate,
    gate_parameters,
    weight_parameters,
)
from hagvig_lib.training import Batches, fit, predict

X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).double()
Y = X.sum(1, keepdim=True)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6), HardAttentionGate(6, -1), nn.Tanh(), nn.Linear(6, 1)
    ).double()


def batches(**options):
    return Batches(X, Y, size=8, seed=1, **options)


def optimizers(net, lr=0.1):
    return {
        "weight_optimizer": SGD(weight_parameters(net), lr),
        "gate_optimizer": SGD(gate_parameters(net), lr),
    }


def by_hand(net, epochs=2, lr=0.1, routed=False, gate_loss=F.mse_loss):
    """The same training in plain torch, gates and weights by SGD."""
    gates, weights = gate_parameters(net), weight_parameters(net)
    data = batches()
    for _ in range(epochs):
        for x, y in data:
            if routed:
                grads = torch.autograd.grad(gate_loss(net(x), y), gates)
                move(gates, grads, lr)
                grads = torch.autograd.grad(F.mse_loss(net(x), y), weights)
                move(weights, grads, lr)
            else:
                both = weights + gates
                grads = torch.autograd.grad(F.mse_loss(net(x), y), both)
                move(both, grads, lr)
    return net


def move(parameters, grads, lr):
    with torch.no_grad():
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter -= lr * grad


def assert_equal(net, other):
    # float64, ten steps: round-off of sums in another order at most
    torch.testing.assert_close(
        net.state_dict(), other.state_dict(), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("routed", [True, False])
def test_passes_are_those_of_the_paper_or_joint(net, routed):
    expected = by_hand(copy.deepcopy(net), routed=routed)
    fit(
        net,
        batches(),
        F.mse_loss,
        epochs=2,
        routed=routed,
        quiet=True,
        **optimizers(net),
    )
    assert_equal(net, expected)


def test_gates_may_have_a_loss_of_their_own(net):
    expected = by_hand(copy.deepcopy(net), routed=True, gate_loss=F.l1_loss)
    history = fit(
        net,
        batches(),
        F.mse_loss,
        gate_loss=F.l1_loss,
        epochs=2,
        quiet=True,
        **optimizers(net),
    )
    assert_equal(net, expected)
    assert list(history) == ["epoch", "loss", "gate_loss"]


def test_one_optimizer_trains_what_it_holds(net):
    before = copy.deepcopy(net)
    weights = SGD(weight_parameters(net), 0.1)
    history = fit(
        net,
        batches(),
        F.mse_loss,
        epochs=3,
        weight_optimizer=weights,
        quiet=True,
    )
    assert torch.equal(net[1].logits, before[1].logits)
    assert not torch.equal(net[0].weight, before[0].weight)
    assert history.epoch.tolist() == [1, 2, 3]
    assert history.loss.is_monotonic_decreasing


@pytest.mark.parametrize("routed", [True, False])
def test_each_group_is_clipped_by_its_own_norm(net, routed):
    before = copy.deepcopy(net)
    fit(
        net,
        [(X, Y)],
        F.mse_loss,
        epochs=1,
        routed=routed,
        clip_weights=1e-2,
        clip_gates=1e-3,
        quiet=True,
        **optimizers(net, lr=1),
    )

    def moved(group):
        pairs = zip(group(net), group(before), strict=True)
        return torch.cat([(p - q).flatten() for p, q in pairs]).norm().item()

    # torch divides by the norm plus 1e-6
    assert moved(weight_parameters) == pytest.approx(1e-2, rel=1e-4)
    assert moved(gate_parameters) == pytest.approx(1e-3, rel=1e-2)


def test_batches_of_a_dict_and_of_a_loader_train_alike(net):
    class OfDict(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, inputs):
            return self.inner(inputs["x"])

    twin = OfDict(copy.deepcopy(net))
    loader = DataLoader(TensorDataset(X, Y), batch_size=8)
    rows = [({"x": x}, y) for x, y in loader]
    for model, data in ((net, loader), (twin, rows)):
        fit(model, data, F.mse_loss, epochs=2, quiet=True, **optimizers(model))
    assert_equal(net, twin.inner)


def test_schedules_move_after_every_batch(net):
    groups = optimizers(net)
    schedules = [StepLR(o, step_size=1, gamma=0.5) for o in groups.values()]
    fit(
        net,
        batches(),
        F.mse_loss,
        epochs=2,
        schedules=schedules,
        quiet=True,
        **groups,
    )
    rates = [o.param_groups[0]["lr"] for o in groups.values()]
    assert rates == pytest.approx([0.1 / 2**6] * 2)


def test_each_epoch_adds_columns_and_may_evaluate(net):
    def measure(model):
        return {"error": F.l1_loss(predict(model, [(X, Y)]), Y).item()}

    history = fit(
        net,
        batches(),
        F.mse_loss,
        epochs=2,
        each_epoch=measure,
        quiet=True,
        **optimizers(net),
    )
    assert history.error[1] == measure(net)["error"]
    assert net.training


def test_progress_goes_to_stderr_unless_quiet(net, capsys):
    for quiet in (False, True):
        fit(
            net,
            batches(),
            F.mse_loss,
            epochs=2,
            quiet=quiet,
            **optimizers(net),
        )
        output = capsys.readouterr()
        assert output.out == ""
        assert ("6/6" in output.err) == (not quiet)


def test_batches_cover_every_row_once_in_a_new_order():
    data = batches()
    first, second = ([y for _, y in data] for _ in range(2))
    assert [len(y) for y in first] == [8, 8, 4]
    assert len(data) == 3
    assert torch.equal(torch.cat(first).sort(0)[0], Y.sort(0)[0])
    assert not torch.equal(torch.cat(first), torch.cat(second))
    again = torch.cat([y for _, y in batches()])
    assert torch.equal(again, torch.cat(first))


def test_batches_keep_inputs_of_a_dict_in_step_with_targets():
    rows = torch.arange(20)
    for inputs, targets in Batches({"a": rows, "b": (rows,)}, rows, 6, 0):
        assert torch.equal(inputs["a"], targets)
        assert torch.equal(inputs["b"][0], targets)


def test_predict_keeps_order_and_leaves_every_mode(net):
    model = nn.Sequential(nn.Dropout(0.5), net, nn.BatchNorm1d(1).double())
    model[2].eval()
    got = predict(model, DataLoader(TensorDataset(X, Y), batch_size=3))
    assert [m.training for m in model] == [True, True, False]
    pieces = [(X[:7], 0), (X[7:], 0)]
    torch.testing.assert_close(got, predict(model, pieces))
    with torch.no_grad():
        torch.testing.assert_close(got, model[2](net(X)))


def test_predict_keeps_all_rows_that_a_sampler_picks(net):
    data = TensorDataset(X, Y)  # 20 rows, of which 7 in batches of 4
    rows = predict(net, DataLoader(data, batch_size=4, sampler=range(7)))
    torch.testing.assert_close(rows, predict(net, [(X[:7], 0)]))


def test_predict_that_fails_leaves_every_mode(net):
    with pytest.raises(RuntimeError, match="shape"):
        predict(net, [(X[:, :3], 0)])
    assert all(module.training for module in net.modules())


def test_each_epoch_may_leave_the_model_in_evaluation_mode(net):
    modes = []
    net[0].register_forward_pre_hook(lambda m, _: modes.append(m.training))
    fit(
        net,
        [(X, Y)],
        F.mse_loss,
        epochs=3,
        each_epoch=lambda model: model.eval() and {},
        quiet=True,
        **optimizers(net, lr=0.01),
    )
    assert all(modes)


def test_an_optimizer_may_hold_more_than_the_model(net):
    scale = nn.Parameter(torch.ones((), dtype=X.dtype))
    seen = []
    fit(
        net,
        [(X, Y)],
        lambda outputs, targets: (
            F.mse_loss(outputs.detach(), targets)
            + 3 * scale
            + 0 * outputs.sum()
        ),
        epochs=3,
        weight_optimizer=SGD([*net.parameters(), scale], 1e-3),
        each_epoch=lambda _: seen.append(scale.grad.item()) or {},
        quiet=True,
    )
    assert seen == [3, 3, 3]


def test_accumulating_accelerator_is_refused(net):
    with pytest.raises(ValueError, match="gradient_accumulation_steps is 2"):
        fit(
            net,
            batches(),
            F.mse_loss,
            epochs=1,
            accelerator=Accelerator(gradient_accumulation_steps=2),
            **optimizers(net),
        )


def test_generator_that_is_used_up_is_explained(net):
    once = (batch for batch in batches())
    with pytest.raises(ValueError, match="none in epoch 2"):
        fit(net, once, F.mse_loss, epochs=2, quiet=True, **optimizers(net))


def test_loss_that_is_no_number_stops_the_training(net):
    targets = Y.clone()
    targets[3] = torch.nan
    with pytest.raises(FloatingPointError, match="loss is nan in epoch 1"):
        fit(
            net,
            [(X, targets)],
            F.mse_loss,
            epochs=1,
            quiet=True,
            **optimizers(net),
        )


def test_limit_for_gates_without_their_optimizer_is_refused(net):
    with pytest.raises(ValueError, match="clip_gates: there is no gate_opt"):
        fit(
            net,
            batches(),
            F.mse_loss,
            epochs=1,
            weight_optimizer=SGD(net.parameters(), 0.1),
            clip_gates=1.0,
        )


def test_gate_loss_without_routing_is_refused(net):
    with pytest.raises(ValueError, match="one pass has one loss"):
        fit(
            net,
            batches(),
            F.mse_loss,
            gate_loss=F.l1_loss,
            routed=False,
            epochs=1,
            **optimizers(net),
        )


@pytest.fixture
def bfloat16():
    """An accelerator; its precision is a state of the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(mixed_precision="bf16", cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("routed", [True, False])
def test_bfloat16_trains_under_autocast_once(net, routed, bfloat16):
    seen = []
    net = net.float()
    net[3].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    history = fit(
        net,
        [(X.float(), Y.float())],
        F.mse_loss,
        epochs=3,
        routed=routed,
        accelerator=bfloat16,
        quiet=True,
        **optimizers(net),
    )
    assert set(seen) == {torch.bfloat16}
    assert history.loss.is_monotonic_decreasing
    assert net(X.float()).dtype == torch.float32  # nothing stays wrapped
    with pytest.raises(FloatingPointError):
        fit(
            net,
            [(X.float(), Y.float() * torch.nan)],
            F.mse_loss,
            epochs=1,
            routed=routed,
            accelerator=bfloat16,
            quiet=True,
            **optimizers(net),
        )
    with torch.no_grad():
        assert net[0](X.float()).dtype == torch.float32
        assert net(X.float()).dtype == torch.float32
