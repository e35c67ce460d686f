"""The study of larger images: equal sizes, equal pictures, own garments."""

import pytest
import torch
from torch.nn import functional as F

from hagvig_lib.data import fashion_mnist
from hagvig_lib.measure.studies import resolution_transfer as study

NETWORKS = {
    "vig": study.small_vig,
    "vit": lambda: study.small_vit(False),
    "class token": lambda: study.small_vit(True),
}


@pytest.fixture
def short(monkeypatch):
    epochs = dict.fromkeys(study.EPOCHS, 1)
    short = {"IMAGES": 200, "TEST": 50, "EPOCHS": epochs, "SIDES": (96, 144)}
    for name, value in short.items():
        monkeypatch.setattr(study, name, value)


def test_networks_are_of_equal_size():
    sizes = [
        sum(p.numel() for p in NETWORKS[arm]().parameters())
        for arm in study.ARMS
    ]
    assert max(sizes) < 1.03 * min(sizes)


@pytest.mark.parametrize("arm", study.ARMS)
def test_networks_have_as_many_places_and_positions_at_any_side(arm):
    net = NETWORKS[arm]().eval()
    places = net.pos_embed.shape[1] - (arm == "class token")
    assert places == (study.SIDES[0] // 16) ** 2
    seen = []
    net.blocks[-1].register_forward_hook(lambda m, i, out: seen.append(out))
    with torch.no_grad():
        for side in study.SIDES:
            net(torch.zeros(1, 1, side, side))
    tokens = [x.numel() // x.shape[-1] - (arm == "class token") for x in seen]
    assert tokens == [(side // 16) ** 2 for side in study.SIDES]


def test_a_garment_is_whole_and_at_the_same_place_at_any_side():
    images = torch.full((20, 1, 28, 28), 255, dtype=torch.uint8)
    places = study._places(20, 0)
    small, large = (study.render(images, places, s) for s in (96, 192))
    torch.testing.assert_close(F.avg_pool2d(large, 2), small, atol=0.5, rtol=0)
    white = (small * fashion_mnist.STD + fashion_mnist.MEAN).sum((1, 2, 3))
    heights = places[:, 0, 0]
    assert heights.min() >= 1
    assert heights.max() <= 2
    assert heights.max() > heights.min() + 0.5
    torch.testing.assert_close(white, (96 / heights) ** 2, rtol=0.05, atol=0)


def test_seeds_share_no_garment():
    seeds = sorted({run["seed"] for run in study.RUNS})
    assert 0 not in seeds  # it chose the learning rate
    own = [study._garments(seed)[0] for seed in (seeds[0], seeds[-1])]
    assert [len(images) for images in own] == [study.IMAGES] * 2
    assert not torch.equal(*own)


@pytest.mark.parametrize("arm", study.ARMS)
def test_a_short_run_reports_every_side_and_repeats_itself(short, arm):
    result = study.run(arm, seed=1)
    if arm == "vig":
        assert result == study.run(arm, seed=1)
    assert result.keys() == {"train", "test 96", "test 144"}
    assert all(0 <= value <= 1 for value in result.values())
