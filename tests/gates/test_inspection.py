import pytest
import torch
from torch import nn

from hagvig_lib.gates import (
    HardAttentionGate,
    add_gates,
    gate_parameters,
    gate_penalty,
    gate_table,
    harden,
    named_gates,
    prune_gates,
    sparsity,
    weight_parameters,
)


def chain(*values):
    """A model of one gate whose channels have these values."""
    gate = HardAttentionGate(len(values), -1)
    with torch.no_grad():
        gate.logits.copy_(torch.tensor(values).logit())
    return nn.Sequential(nn.Linear(2, len(values)), gate)


def test_gates_and_weights_partition_the_parameters(name, build):
    model = add_gates(build(name, shallow=True))
    gates, weights = gate_parameters(model), weight_parameters(model)
    parts = [id(p) for p in gates + weights]
    assert len(parts) == len(set(parts))
    assert set(parts) == {id(p) for p in model.parameters()}
    assert len(gates) == len(named_gates(model)) > 0


def test_shared_parameters_are_listed_once():
    layer = nn.Linear(3, 3)
    gate, tied = HardAttentionGate(3, -1), HardAttentionGate(3, -1)
    tied.logits = gate.logits
    model = nn.Sequential(layer, gate, layer, gate, tied)
    assert gate_parameters(model) == [gate.logits]
    assert len(weight_parameters(model)) == 2


def test_plain_model_has_only_weights():
    model = nn.Linear(3, 3)
    assert gate_parameters(model) == []
    assert len(weight_parameters(model)) == 2


def test_table_has_one_row_per_channel_of_every_site(build):
    model = add_gates(build("resnet18"))
    table = gate_table(model)
    assert list(table.columns) == ["site", "channel", "value", "logit"]
    assert len(table) == 960
    rows = table[table.site == "layer2"]
    gate = model.layer2.gate
    assert list(rows.channel) == list(range(128))
    assert list(rows.value) == gate.values().tolist()
    assert list(rows.logit) == gate.logits.tolist()


def test_table_of_a_bfloat16_model():
    table = gate_table(chain(0.5, 0.5).bfloat16())
    assert list(table.value) == [0.5, 0.5]
    assert list(table.logit) == [0, 0]


def test_sparsity_is_the_share_below_the_threshold():
    model = chain(0.1, 0.2, 0.3, 0.8)
    assert sparsity(model, 0.25) == 0.5
    assert sparsity(model, 0.05) == 0
    assert sparsity(model, 0.9) == 1


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 2.0, float("nan")])
@pytest.mark.parametrize("function", [sparsity, harden, prune_gates])
def test_threshold_outside_0_to_1_is_refused(function, threshold):
    with pytest.raises(ValueError, match="threshold is"):
        function(chain(0.5), threshold)


@pytest.mark.parametrize(
    "function",
    [
        gate_table,
        gate_penalty,
        named_gates,
        lambda model: sparsity(model, 0.5),
        lambda model: harden(model, 0.5),
        lambda model: prune_gates(model, 0.5),
    ],
)
def test_model_without_gates_is_told_to_add_them(function):
    with pytest.raises(ValueError, match=r"Linear has no gates.*add_gates"):
        function(nn.Linear(2, 2))
