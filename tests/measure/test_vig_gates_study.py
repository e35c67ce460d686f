"""The study of gates on a scan trains and prunes what it says."""

import json

import pandas as pd
import pytest
import torch

from hagvig_lib.gates import gate_parameters, named_gates
from hagvig_lib.measure.studies import resolution_transfer as shared
from hagvig_lib.measure.studies import vig_gates as study


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(study, "EPOCHS", 1)
    monkeypatch.setattr(shared, "IMAGES", 200)
    monkeypatch.setattr(shared, "TEST", 50)


def test_gates_are_at_four_kinds_of_sites_in_every_block():
    sites = list(named_gates(study.network("joint")))
    kinds = [
        [site for site in sites if site.endswith(slot)]
        for slot in study.SITES.values()
    ]
    assert [len(kind) for kind in kinds] == [3, 3, 3, 3]
    assert {site for kind in kinds for site in kind} == set(sites)


@pytest.mark.parametrize("arm", study.ARMS)
def test_arms_of_one_seed_start_from_the_same_weights(arm):
    torch.manual_seed(2)
    plain = study.network("ungated").state_dict()
    torch.manual_seed(2)
    weights = study.network(arm).state_dict()
    for name, weight in plain.items():
        assert torch.equal(weight, weights[name])


@pytest.mark.parametrize("arm", study.ARMS)
def test_gates_move_where_they_are_to_learn(short, arm):
    net = study.network(arm)
    before = [logits.detach().clone() for logits in gate_parameters(net)]
    study.learn(net, arm, seed=1)
    after = gate_parameters(net)
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert moved == [arm not in ("ungated", "frozen 0.5")] * len(moved)
    assert len(moved) == {"ungated": 0, "branches": 6}.get(arm, 12)


@pytest.mark.parametrize(
    ("arm", "times"), [("joint", 0), ("early price", 4), ("late price", 2)]
)
def test_open_gates_cost_something_from_the_stated_step_on(
    short, monkeypatch, arm, times
):
    calls = []
    price = study.gate_penalty
    monkeypatch.setattr(
        study, "gate_penalty", lambda net: calls.append(1) or price(net)
    )
    study.learn(study.network(arm), arm, seed=1)
    assert len(calls) == times


def test_gates_of_a_scan_count_relative_to_the_loudest_of_their_head():
    net = study.network("frozen 0.5")
    gates = named_gates(net)
    fwd, bwd = (
        gates[f"blocks.0.attn.scans.{direction}"].logits.data
        for direction in ("fwd", "bwd")
    )
    fwd[:32], bwd[:32] = -5, -9  # a head: 0.0067 is its loudest
    found = study.closed(net)
    assert found["closed forward"] == 0
    assert found["closed backward"] == pytest.approx(32 / 192)
    assert found["gate forward"] == pytest.approx(1)
    assert sum(found["shut"]) == 32 + 32
    fwd[:], bwd[:] = -6e4, -6e4  # exactly 0
    assert study.closed(net)["closed forward"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("arm", ["ungated", "routed", "branches"])
def test_a_run_reports_what_the_chapter_reads(short, arm):
    result = study.run(arm, seed=1)
    json.dumps(result, allow_nan=False)
    expected = {"train", "test", "test without forward"}
    if arm != "ungated":
        expected |= {"gate mlp", "shut", "test pruned", "multiply_adds"}
    assert expected <= result.keys()
    assert ("closed forward" in result) == (arm == "routed")
    assert ("heard backward" in result) == (arm == "routed")
    assert study.run(arm, seed=1) == result


def test_a_closed_direction_is_counted_and_no_longer_computed():
    torch.manual_seed(0)
    net = study.network("frozen 0.5").eval()
    gates = named_gates(net)
    for site in ("blocks.0.attn.scans.bwd", "blocks.2.attn.scans.fwd"):
        gates[site].logits.data.fill_(-9)
    gates["blocks.1.ls2"].logits.data[:16] = -9
    found = study.closed(net)
    assert found["shut"] == [0, 64, 0, 0, 0, 0, 0, 16, 64, 0, 0, 0]
    shares = {name: found[f"closed {name}"] for name in study.SITES}
    third = pytest.approx(1 / 3)
    expected = {"forward": third, "backward": third, "mixer": 0}
    assert shares == expected | {"mlp": pytest.approx(16 / 192)}
    assert found["gate mixer"] == pytest.approx(0.5)
    fewer = study._pruned(net)
    assert fewer["multiply_adds"] < 1
    assert [*net.blocks[0].attn.scans] == ["fwd", "bwd"]  # it was a copy


@pytest.mark.parametrize("arm", ["ungated", "late price"])
def test_leaving_out_a_direction_leaves_the_other(arm):
    torch.manual_seed(0)
    net = study.network(arm).eval()
    for block in net.blocks:  # as fresh, its scans are too quiet to tell
        block.attn.qkv.weight.data.mul_(100)
    frames = torch.randn(2, 1, 96, 96)
    whole = net(frames)
    for direction in study.DIRECTIONS:
        left = study.without(net, direction)
        assert not torch.allclose(left(frames), whole, rtol=1e-3)
        for block in left.blocks:  # what feeds it no longer matters
            rows = block.attn.gate[1].weight.data.chunk(2)
            rows[direction == "backward"].add_(1)
        again = study.without(net, direction)(frames)
        assert torch.equal(left(frames), again)
    assert torch.equal(net(frames), whole)


def test_a_gate_is_noted_when_its_scan_is_first_heard():
    names = [f"blocks.{i}.attn.scans.fwd" for i in range(3)]
    loud = [[1e-5, 1e-2, 1e-5], [1e-2, 1e-2, 1e-2], [1e-5] * 3]
    gates = [[0.9, 0.5, 0.1], [0.4, 0.1, 0.1], [0.9, 0.9, 0.3]]
    columns = {f"loud {n}": c for n, c in zip(names, loud, strict=True)}
    columns |= {f"open {n}": c for n, c in zip(names, gates, strict=True)}
    heard = study._when_heard(pd.DataFrame(columns))
    assert heard == {"heard forward": pytest.approx((0.5 + 0.4 + 0.3) / 3)}
