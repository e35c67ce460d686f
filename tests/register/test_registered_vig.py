"""What the released ViG does, beside ours, with the effect."""

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2, param_groups_weight_decay

import hagvig_lib  # noqa: F401  registers the names
from hagvig_lib.measure.studies.vig_efficiency import counts
from hagvig_lib.models.vig_block import VisionGLA

NAME = "vig_tiny_patch16_224"


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@torch.no_grad()
def drawn(module, size):
    """Weights anew, `size(fan_in)` large; norms and biases near as made."""
    for p in module.parameters():
        noise = torch.randn_like(p)
        if p.ndim > 1:
            p.copy_(noise * size(p[0].numel()))
        else:
            p.add_(noise, alpha=0.05)
    return module.eval()


# --- V1: evaluation halves twice ------------------------------------------


@torch.no_grad()
def test_v1_a_second_halving_shows_where_scans_are_quiet(recorded):
    x = torch.randn(1, 3, 224, 224)
    sizes = {"quiet": lambda _: 0.05, "loud": lambda fan_in: fan_in**-0.5}
    moved = {}
    for name, size in sizes.items():
        vig = drawn(timm.create_model(NAME), size)
        once = vig(x)
        for block in vig.blocks:
            block.attn.halving = "official-eval"
        moved[name] = ((vig(x) - once).abs().max() / once.std()).item()
    assert moved["quiet"] == pytest.approx(recorded("V1"), rel=0.02)
    assert moved["loud"] < 1e-3


# --- V2: the published counts leave a layer out ---------------------------


def left(pair, side):
    """Of all multiply-adds those without MLPs' ends; and those of scans."""
    found = counts(pair, side)
    return found["vig multiply_adds"] - found["down"], found["recurrence"]


def test_v2_published_counts_lack_the_last_layer_of_the_mlp(recorded):
    """They lie between what is left with the scans and without them."""
    rest, scans = left("tiny", 1024)
    assert rest - scans < 18.97e9 < rest  # read off a figure
    rest, scans = left("small", 224)
    found = counts("small", 224)
    deit = found["deit multiply_adds"]
    assert round(rest / deit, 2) == 0.20  # the abstract
    assert round((rest - scans) / deit, 2) == 0.20
    assert found["vig multiply_adds"] / deit > 0.25
    found = counts("tiny", 224)
    share = found["down"] / found["vig multiply_adds"]
    assert share == pytest.approx(recorded("V2"), abs=5e-4)


# --- V3: two activations more ---------------------------------------------


@torch.no_grad()
def test_v3_activations_of_the_smallest_change_its_mixer(recorded):
    plain, released = (
        drawn(VisionGLA(192, 3, act=act), lambda fan_in: fan_in**-0.5)
        for act in (False, True)
    )
    plain.load_state_dict(released.state_dict())
    x = torch.randn(1, 14, 14, 192)
    change = (plain(x) - released(x)).norm() / released(x).norm()
    assert change.item() == pytest.approx(recorded("V3"), rel=0.02)


# --- V5: the position embedding is decayed --------------------------------


def test_v5_the_recipe_decays_the_position_embedding(recorded):
    vig = timm.create_model(NAME)
    released = param_groups_weight_decay(vig, recorded("V5"))
    ours = create_optimizer_v2(vig, weight_decay=recorded("V5")).param_groups
    for groups, decay in ((released, recorded("V5")), (ours, 0)):
        (group,) = (
            group
            for group in groups
            if any(p is vig.pos_embed for p in group["params"])
        )
        assert group["weight_decay"] == decay
