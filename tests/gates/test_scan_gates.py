"""Gates on the two directions of a ViG's scans."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hagvig_lib.gates import (
    HardAttentionGate,
    HardConcreteGate,
    add_gates,
    gate_parameters,
    gate_sites,
    harden,
    named_gates,
    prune_gates,
)
from hagvig_lib.gla import gla

NAMES = "vig_tiny_patch16_224", "vig_h_tiny"
DIRECTIONS = ("fwd", "bwd")
RTOL = 1e-12  # as in test_pruning


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def vig(build):
    """A ViG of two blocks with gates on its scans, in float64."""

    def vig(**options):
        model = build("vig_tiny_patch16_224", shallow=True, **options)
        add_gates(model.double().eval(), "*.scans.*")
        torch.manual_seed(3)
        for logits in gate_parameters(model):
            nn.init.uniform_(logits, 0, 3)
        return model

    return vig


@pytest.fixture
def wide():
    """More tokens than `images` gives: 3 x 4."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 48, 64, generator=generator, dtype=torch.float64)


def test_auto_leaves_the_directions_alone(name, build):
    plain = build(name)
    sites = gate_sites(plain)
    scans = [site for site in sites if ".attn.scans." in site]
    assert len(scans) == len(sites) / 2
    assert {site.rpartition(".")[2] for site in scans} == set(DIRECTIONS)
    auto = named_gates(add_gates(plain))
    assert list(auto) == [site for site in sites if site not in scans]


def test_each_direction_has_its_own_gate(vig):
    """g_fwd * (q S_fwd) + g_bwd * (q S_bwd), computed by hand."""
    mixer = vig().blocks[0].attn
    x = torch.randn(2, 7, 192, dtype=torch.float64)
    q, k, v = (
        part.unflatten(-1, (3, -1))
        for part in mixer.qkv(x).split([96, 96, 192], -1)
    )
    log_gates = (F.logsigmoid(mixer.gate(x)) / 16).chunk(2, -1)
    expected = 0
    for direction, log_gate in zip(DIRECTIONS, log_gates, strict=True):
        log_gate = log_gate.unflatten(-1, (3, -1))
        gate = mixer.scans[direction].gate.values().unflatten(-1, (3, -1))
        options = {"reverse": direction == "bwd", "backend": "reference"}
        o = gla(q, k, v, log_gate, scale=32**-0.5 / 2, **options)
        expected = expected + gate * o
    torch.testing.assert_close(mixer._scan(x), expected)


def test_open_gates_give_the_merged_scan(build, wide):
    plain = build("vig_tiny_patch16_224", shallow=True).double().eval()
    gated = add_gates(copy.deepcopy(plain), "*.scans.*")
    for logits in gate_parameters(gated):
        nn.init.constant_(logits, 6e4)
    with torch.no_grad():
        expected = plain(wide)
        assert (gated(wide) - expected).norm() < RTOL * expected.norm()


@pytest.mark.parametrize("scan", ["direction-wise", "shared-gate"])
@pytest.mark.parametrize(
    ("closed", "kept", "left"),
    [
        ("", DIRECTIONS, DIRECTIONS),
        ("fwd", ["bwd"], ()),
        ("bwd", ["fwd"], ()),
        ("fwd bwd", ["fwd"], ()),  # times zero
    ],
)
def test_closed_direction_is_not_computed(vig, wide, scan, closed, kept, left):
    model = vig(scan=scan)
    for direction in closed.split():
        scans = model.blocks[1].attn.scans
        nn.init.constant_(scans[direction].gate.logits, -9)
    hard = copy.deepcopy(model)
    harden(hard, 0.3)
    report = prune_gates(model, 0.3, wide)
    with torch.no_grad():
        expected, output = hard(wide), model(wide)
    assert (output - expected).norm() < RTOL * expected.norm()
    assert list(model.blocks[1].attn.scans) == list(kept)
    stays = [f"blocks.1.attn.scans.{direction}" for direction in left]
    assert [site for site in report.left if "blocks.1." in site] == stays
    assert model.blocks[1].attn.gate[1].out_features == (
        192 if scan == "direction-wise" and len(kept) == 2 else 96
    )
    before, after = report.costs.multiply_adds
    assert (after < before) == bool(closed)


def test_gates_of_an_only_direction_are_folded(vig, wide):
    model = vig(scan="one-direction")
    with torch.no_grad():
        model.blocks[1].attn.scans["fwd"].gate.logits[:64] = -9
        harden(hard := copy.deepcopy(model), 0.3)
        expected = hard(wide)
    report = prune_gates(model, 0.3, wide)
    assert report.left == ()
    assert not gate_parameters(model)
    with torch.no_grad():
        assert (model(wide) - expected).norm() < RTOL * expected.norm()


@pytest.mark.parametrize("gate", [HardAttentionGate, HardConcreteGate])
@pytest.mark.parametrize("halving", ["mean", "official-eval"])
@pytest.mark.parametrize("closed", [True, False])
def test_lone_gate_of_two_directions_is_pruned(
    build, wide, gate, halving, closed
):
    model = build("vig_tiny_patch16_224", shallow=True, halving=halving)
    add_gates(model.double().eval(), "blocks.0.attn.scans.bwd", gate=gate)
    (logits,) = gate_parameters(model)
    nn.init.constant_(logits, -9 if closed else 1)
    harden(hard := copy.deepcopy(model), 0.3)
    report = prune_gates(model, 0.3, wide)
    with torch.no_grad():
        expected = hard(wide)
        assert (model(wide) - expected).norm() < RTOL * expected.norm()
    assert report.left == (() if closed else ("blocks.0.attn.scans.bwd",))


def test_gates_that_went_with_their_branch_are_not_left(build):
    """Open gates on the scans of a mixer that closes altogether."""
    model = add_gates(build("vig_h_tiny").double().eval(), "*", 0.9)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    for site, gate in named_gates(model).items():
        if site.startswith("stages.1") and site.endswith(("ls1", "fwd")):
            nn.init.constant_(gate.logits, -9)
        if site.startswith("stages.0") and site.endswith("bwd"):
            nn.init.constant_(gate.logits, -9)
    harden(hard := copy.deepcopy(model), 0.3)
    report = prune_gates(model, 0.3, x)
    with torch.no_grad():
        expected = hard(x)
        assert (model(x) - expected).norm() < RTOL * expected.norm()
    assert report.left == ()
    assert not gate_parameters(model)


def test_pruned_scan_takes_new_gates(vig, wide):
    """Nothing is missing from a model that scans in one direction."""
    model = vig()
    nn.init.constant_(model.blocks[0].attn.scans["fwd"].gate.logits, -9)
    prune_gates(model, 0.3, wide)
    assert "blocks.0.attn.scans.fwd" not in gate_sites(model)
    add_gates(model, "blocks.0.attn.scans.bwd", init=0.5)
    model(wide).sum().backward()
