import pytest
import timm
import torch
from timm.models.vision_transformer import (
    ParallelScalingBlock,
    ResPostBlock,
    VisionTransformer,
)

from hagvig_lib.gates import (
    HardConcreteGate,
    add_gates,
    gate_parameters,
    gate_sites,
    gate_table,
    named_gates,
    weight_parameters,
)

TRANSFORMER = "vit_tiny_patch16_224"


def test_keys_are_those_of_timm_and_one_per_site(name, build):
    plain = build(name)
    sites = gate_sites(plain)
    gated = add_gates(build(name), "*")
    new = {f"{site}.gate.logits" for site in sites}
    assert set(gated.state_dict()) == set(plain.state_dict()) | new
    assert not new & set(plain.state_dict())
    assert {s: g.channels for s, g in named_gates(gated).items()} == sites
    assert gate_sites(gated) == sites


@pytest.mark.parametrize(
    ("name", "sites", "gates"),
    [
        ("vit_tiny_patch16_224", 24, 4608),
        ("deit3_small_patch16_224", 24, 9216),
        ("resnet18", 4, 960),
        ("resnet50", 4, 3840),
        ("efficientnet_b0", 7, 784),
    ],
)
def test_number_of_gates(build, name, sites, gates):
    table = gate_table(add_gates(build(name)))
    assert table.site.nunique() == sites
    assert len(table) == gates


def test_distilled_deit_is_gated(build):
    model = build("deit_tiny_distilled_patch16_224", shallow=True)
    assert len(named_gates(add_gates(model))) == 4


def test_transformer_gate_follows_layer_scale(build, images):
    """x + gate * gamma * attention(norm(x)), computed by hand."""
    model = add_gates(build("deit3_small_patch16_224", shallow=True))
    block = model.blocks[0].double()
    x = torch.randn(2, 5, 384, dtype=torch.float64)
    factor = block.ls1.gate.values() * block.ls1.gamma
    x1 = x + factor * block.attn(block.norm1(x))
    factor = block.ls2.gate.values() * block.ls2.gamma
    x2 = x1 + factor * block.mlp(block.norm2(x1))
    torch.testing.assert_close(block(x), x2)


def test_stage_gate_multiplies_the_whole_stage(build, images):
    plain = build("resnet18").eval()
    gated = add_gates(build("resnet18")).eval()
    stem = plain.maxpool(plain.act1(plain.bn1(plain.conv1(images))))
    expected = plain.layer1(stem) * gated.layer1.gate.values()[:, None, None]
    torch.testing.assert_close(gated.layer1(stem), expected)


@pytest.mark.parametrize(
    ("name", "sites", "expected"),
    [
        ("resnet18", "layer4", ["layer4"]),
        ("resnet18", ["layer4", "layer[12]"], ["layer1", "layer2", "layer4"]),
        (TRANSFORMER, "blocks.*.ls2", ["blocks.0.ls2", "blocks.1.ls2"]),
        (TRANSFORMER, ("blocks.1.*",), ["blocks.1.ls1", "blocks.1.ls2"]),
    ],
)
def test_globs_choose_sites_in_model_order(build, name, sites, expected):
    model = add_gates(build(name, shallow=True), sites)
    assert list(named_gates(model)) == expected


@pytest.mark.parametrize("sites", ["layer5", ["layer1", "blocks.*"], ""])
def test_glob_without_match_lists_what_there_is(build, sites):
    model = build("resnet18")
    with pytest.raises(ValueError, match="layer1, layer2, layer3, layer4"):
        add_gates(model, sites)
    assert not gate_parameters(model)


def test_second_gate_on_a_site_is_refused(name, build):
    model = build(name, shallow=True)
    first, *_, last = gate_sites(model)
    add_gates(model, last)
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=rf"{last}: gated already"):
        add_gates(model)
    assert list(model.state_dict()) == before
    add_gates(model, first)
    assert set(named_gates(model)) == {first, last}


def test_bad_init_leaves_the_model_as_it_was(build):
    model = build("resnet18")
    with pytest.raises(ValueError, match="init is 'half'"):
        add_gates(model, init="half")
    assert not gate_parameters(model)


@pytest.mark.parametrize(
    "other", ["convnext_atto", "swin_tiny_patch4_window7_224"]
)
def test_unknown_class_is_refused_by_name(other):
    model = timm.create_model(other)
    with pytest.raises(TypeError, match=type(model).__name__) as error:
        add_gates(model)
    assert "VisionTransformer" in str(error.value)


@pytest.mark.parametrize("block", [ResPostBlock, ParallelScalingBlock])
def test_unknown_block_is_refused_by_name(block):
    model = VisionTransformer(
        img_size=32, embed_dim=8, num_heads=2, depth=1, block_fn=block
    )
    with pytest.raises(TypeError, match=rf"blocks.0 is a {block.__name__}"):
        add_gates(model)


def test_every_gate_gets_a_gradient(name, build, images):
    model = add_gates(build(name)).train()
    model(images).square().sum().backward()
    for site, gate in named_gates(model).items():
        assert gate.logits.grad.isfinite().all(), site
        assert (gate.logits.grad != 0).all(), site


def test_open_gates_change_the_output_by_less_than_1e_5(name, build, images):
    """Each gate takes 8.3e-7 off its branch or stage.

    Seven stages in a row, or 24 branches that each make up a part of the
    sum, take off a few 1e-6. In float64, so that only the gates count.
    """
    plain = build(name).double().eval()
    gated = add_gates(build(name), init="open").double().eval()
    with torch.no_grad():
        expected = plain(images.double())
        change = (gated(images.double()) - expected).norm() / expected.norm()
    assert 0 < change < 1e-5


def test_new_gates_follow_dtype_device_and_mode(name, build):
    model = build(name, shallow=True).to("meta", torch.bfloat16).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for gate in named_gates(add_gates(model)).values():
        assert gate.logits.device.type == "meta"
        assert gate.logits.dtype == torch.bfloat16
        assert gate.logits.requires_grad
        assert not gate.training
    assert not any(p.requires_grad for p in weight_parameters(model))


def test_gate_class_can_be_chosen(build):
    model = add_gates(build("resnet18"), gate=HardConcreteGate)
    assert {type(g) for g in named_gates(model).values()} == {HardConcreteGate}
