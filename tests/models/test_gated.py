import pytest
import timm
import torch

import hagvig_lib  # noqa: F401  registers the names
from hagvig_lib.gates import gate_table, named_gates

SIZES = ("tiny", "small", "base")
NAMES = [
    *(f"hag_vit_{size}_patch16_{n}" for size in SIZES for n in (224, 384)),
    *("hag_resnet18", "hag_resnet34", "hag_resnet50", "hag_efficientnet_b0"),
    *(f"hag_vig_{size}_patch16_224" for size in SIZES),
    *(f"hag_vig_h_{size}" for size in SIZES),
]
SMALL = [
    "hag_vit_tiny_patch16_224",
    "hag_resnet18",
    "hag_efficientnet_b0",
    "hag_vig_tiny_patch16_224",
]
SHALLOW = {
    "vit": {"img_size": 32, "depth": 2},
    # Pretrained or not: the same model. Its files have to be whole.
    "vig": {"halving": "mean"},
}


def build(name, **options):
    family = name.removeprefix("hag_").partition("_")[0]
    return timm.create_model(name, **SHALLOW.get(family, {}), **options)


def saved(model, folder):
    path = folder / "weights.pth"
    torch.save(model.state_dict(), path)
    return str(path)


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32)


def test_timm_lists_every_name():
    assert sorted(timm.list_models("hag_*")) == sorted(NAMES)


@pytest.mark.parametrize(
    ("name", "gates"),
    [
        ("hag_vit_tiny_patch16_224", 4608),
        ("hag_vit_tiny_patch16_384", 4608),
        ("hag_vit_small_patch16_224", 12 * 2 * 384),
        ("hag_vit_small_patch16_384", 12 * 2 * 384),
        ("hag_vit_base_patch16_224", 12 * 2 * 768),
        ("hag_vit_base_patch16_384", 12 * 2 * 768),
        ("hag_resnet18", 960),
        ("hag_resnet34", 960),
        ("hag_resnet50", 4 * 960),
        ("hag_efficientnet_b0", 16 + 24 + 40 + 80 + 112 + 192 + 320),
        ("hag_vig_tiny_patch16_224", 12 * 2 * 192),
        ("hag_vig_h_tiny", 2 * (2 * 96 + 2 * 192 + 5 * 384 + 2 * 768)),
    ],
)
def test_number_of_gates(name, gates):
    with torch.device("meta"):
        model = timm.create_model(name)
    channels = [gate.channels for gate in named_gates(model).values()]
    assert sum(channels) == gates


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_plain_model(name):
    """Every tag of the plain model is known, and the default is the same."""
    plain = name.removeprefix("hag_")
    tags = timm.list_models(plain, include_tags=True)
    assert timm.list_models(name, include_tags=True) == [
        f"hag_{tag}" for tag in tags
    ]
    for tagged in [plain, *tags]:
        ours = timm.get_pretrained_cfg(f"hag_{tagged}").to_dict()
        theirs = timm.get_pretrained_cfg(tagged).to_dict()
        assert ours.pop("architecture") == name
        assert theirs.pop("architecture") == plain
        assert ours == theirs
        if "vig" not in name:
            assert ours["hf_hub_id"] == f"timm/{plain}.{ours['tag']}"


def test_pretrained_weights_load_and_gates_start_as_asked(
    name, images, tmp_path
):
    plain = build(name.removeprefix("hag_")).eval()
    overlay = {"file": saved(plain, tmp_path)}
    model = build(
        name,
        pretrained=True,
        pretrained_cfg_overlay=overlay,
        gate_init="open",
    ).eval()
    state = model.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key
    assert (gate_table(model).logit == 14).all()
    assert model.pretrained_cfg["file"] == overlay["file"]
    with torch.no_grad():
        expected = plain(images)
        # Factors of 1 - 8e-7, up to 24 in a row, change the whole by less.
        assert (model(images) - expected).norm() < 1e-5 * expected.norm()


def test_pretrained_weights_are_adapted(name, tmp_path):
    """Another head, one channel: timm does it before the gates go in."""
    plain = build(name.removeprefix("hag_"))
    model = build(
        name,
        pretrained=True,
        pretrained_cfg_overlay={"file": saved(plain, tmp_path)},
        num_classes=3,
        in_chans=1,
    )
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    stem = plain.pretrained_cfg["first_conv"] + ".weight"
    expected = plain.state_dict()[stem].sum(1, keepdim=True)
    torch.testing.assert_close(model.state_dict()[stem], expected)


def test_tag_names_its_weights():
    model = timm.create_model("hag_resnet18.a2_in1k")
    assert model.pretrained_cfg["hf_hub_id"] == "timm/resnet18.a2_in1k"
    assert model.pretrained_cfg["architecture"] == "hag_resnet18"


@pytest.mark.parametrize("gated", [True, False])
def test_checkpoint_of_either_model_loads(name, gated, tmp_path):
    source = build(name if gated else name.removeprefix("hag_"))
    model = build(name, checkpoint_path=saved(source, tmp_path), gate_init=0.9)
    state = model.state_dict()
    for key, value in source.state_dict().items():
        assert torch.equal(state[key], value), key
    half = gate_table(model).value.mean() < 0.6
    assert half == gated


def test_gates_follow_gate_sites_and_gate_init():
    model = timm.create_model(
        "hag_resnet18", gate_sites=["layer4"], gate_init=0.25
    )
    assert list(named_gates(model)) == ["layer4"]
    assert gate_table(model).value.to_numpy() == pytest.approx(0.25)


def test_features_are_gated(name, images):
    model = build(name, features_only=True, out_indices=(0, 1))
    assert named_gates(model)
    features = model(images)
    widths = [feature.shape[1] for feature in features]
    assert widths == model.feature_info.channels()


def test_drop_path_stays(name):
    model = build(name, drop_path_rate=0.3)
    drops = [m.drop_prob for m in model.modules() if hasattr(m, "drop_prob")]
    assert max(drops) > 0.1
