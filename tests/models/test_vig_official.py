"""Our ViG against outputs of the released definitions."""

import copy
import os
from functools import cache

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode
from vig_reference import MODELS, OFFICIAL, filled, image

from hagvig_lib.gla.arguments import choose_backend
from hagvig_lib.models.vig_block import VisionGLA

TINY = ("vig_tiny", "vig_h_tiny")
# On max|error| / std(logits). float32 has 11 and 22 layers' worth of
# round-off, which four downsamplings amplify; float64 the ten digits kept.
FLOAT32 = {"vig_tiny": 5e-5, "vig_h_tiny": 2e-4}
FLOAT64 = 1e-6
RELEASED_HALVING = {"vig_tiny": "official-eval", "vig_h_tiny": "mean"}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def template(model, fill):
    return filled(model, fill)


def vig(model, fill, **attributes):
    """A filled model with these attributes of its mixers."""
    vig = copy.deepcopy(template(model, fill))
    for module in vig.modules():
        if isinstance(module, VisionGLA):
            vars(module).update(attributes)
    return vig


def error(logits, model, fill, mode):
    """Against the released path of that mode."""
    # ViG-H has one path only.
    key = f"{model}/{fill}/{mode if model == 'vig_tiny' else 'train'}"
    reference = torch.tensor(OFFICIAL["logits"][key], dtype=torch.float64)
    difference = logits[0].double() - reference
    return (difference.abs().max() / reference.std()).item()


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_as_many(name):
    with torch.device("meta"):
        model = timm.create_model(MODELS[name])
    count = sum(p.numel() for p in model.parameters())
    assert count == OFFICIAL["models"][name]["param_count"]


@torch.no_grad()
@pytest.mark.parametrize(
    ("mode", "backend"),
    [
        (mode, backend)
        for mode in ("train", "eval")
        for backend in ("chunkwise", "reference")
    ],
)
@pytest.mark.parametrize("fill", ["A", "B"])
@pytest.mark.parametrize("name", TINY)
def test_logits_are_the_released_ones(name, fill, mode, backend):
    model = vig(name, fill, backend=backend, halving=RELEASED_HALVING[name])
    model.train(mode == "train")
    assert error(model(image()), name, fill, mode) < FLOAT32[name]
    model.double()
    assert error(model(image().double()), name, fill, mode) < FLOAT64


@torch.no_grad()
def test_released_evaluation_halves_twice_and_we_do_not():
    x = image()
    for halving, near, far in (
        ("mean", "train", "eval"),
        ("official-eval", "eval", "train"),
    ):
        logits = vig("vig_tiny", "A", halving=halving).eval()(x)
        assert error(logits, "vig_tiny", "A", near) < FLOAT32["vig_tiny"]
        assert error(logits, "vig_tiny", "A", far) > 0.1


def _why_no_triton():
    try:
        choose_backend("triton", torch.empty(1))
    except ValueError as obstacle:
        return str(obstacle)
    return ""


needs_triton = pytest.mark.skipif(
    bool(_why_no_triton()), reason=_why_no_triton()
)


@torch.no_grad()
@needs_triton
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("name", TINY)
def test_triton_gives_the_same_logits(name):
    """Of few pixels; the released ones are those of 224 x 224."""
    x = image()[:, :, :48, :32]
    exact = vig(name, "B", backend="reference").double()(x.double())
    logits = vig(name, "B", backend="triton")(x)
    assert (logits - exact).abs().max() < FLOAT32[name] * exact.std()


@torch.no_grad()
@needs_triton
@pytest.mark.skipif(
    not os.environ.get("HAGVIG_SLOW"),
    reason="five minutes in Triton's interpreter: set HAGVIG_SLOW=1",
)
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize(
    ("name", "mode"),  # of ViG-H both modes are the same
    [("vig_tiny", "train"), ("vig_tiny", "eval"), ("vig_h_tiny", "eval")],
)
@pytest.mark.parametrize("fill", ["A", "B"])
def test_triton_gives_the_released_logits(name, mode, fill):
    halving = RELEASED_HALVING[name]
    model = vig(name, fill, backend="triton", halving=halving)
    model.train(mode == "train")
    assert error(model(image()), name, fill, mode) < FLOAT32[name]


@pytest.mark.parametrize(
    ("side", "giga_multiply_adds"), [(224, 1.17), (1024, 24.4)]
)
def test_multiply_adds_of_the_smallest(side, giga_multiply_adds):
    with torch.device("meta"):
        model = timm.create_model("vig_tiny_patch16_224")
        x = torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as counter:
        model(x)
    count = counter.get_total_flops() / 2
    assert count == pytest.approx(1e9 * giga_multiply_adds, rel=0.01)
