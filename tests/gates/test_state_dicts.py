import pytest
import torch
from torch import nn

from hagvig_lib.gates import (
    add_gates,
    gate_parameters,
    gate_table,
    named_gates,
)


def values(model):
    return list(gate_table(model).value)


def test_plain_state_dict_loads_strictly_and_gates_stay(name, build):
    source = {k: v + 1 for k, v in build(name).state_dict().items()}
    keys = list(source)
    model = add_gates(build(name))
    before = values(model)
    model.load_state_dict(source, strict=True)
    assert values(model) == before
    state = model.state_dict()
    assert all(torch.equal(state[key], source[key]) for key in keys)
    assert list(source) == keys  # the caller's dict is left alone


def test_gated_state_dict_brings_its_gates(name, build):
    source = add_gates(build(name), init=0.25)
    model = add_gates(build(name))
    model.load_state_dict(source.state_dict(), strict=True)
    assert values(model) == values(source)


@pytest.mark.parametrize("assign", [False, True])
def test_gates_stay_parameters_when_weights_are_assigned(build, assign):
    model = add_gates(build("resnet18"))
    gates = gate_parameters(model)
    model.load_state_dict(build("resnet18").state_dict(), assign=assign)
    assert [id(p) for p in gate_parameters(model)] == [id(p) for p in gates]


@pytest.mark.parametrize("strict", [True, False])
def test_state_dict_with_some_gates_is_refused(name, build, strict):
    model = add_gates(build(name, shallow=True))
    state = model.state_dict()
    first, second, *_ = (f"{site}.gate.logits" for site in named_gates(model))
    del state[second]
    with pytest.raises(RuntimeError, match="gates missing") as error:
        model.load_state_dict(state, strict=strict)
    line = next(s for s in str(error.value).split("\n") if "gates miss" in s)
    assert second in line
    assert first not in line


def test_hook_works_inside_another_module(build):
    plain = nn.ModuleDict({"body": build("resnet18"), "head": nn.Linear(7, 2)})
    outer = nn.ModuleDict(
        {"body": add_gates(build("resnet18")), "head": nn.Linear(7, 2)}
    )
    outer.load_state_dict(plain.state_dict(), strict=True)
    state = outer.state_dict()
    del state["body.layer3.gate.logits"]
    with pytest.raises(RuntimeError, match=r"body\.layer3\.gate\.logits"):
        outer.load_state_dict(state, strict=False)
