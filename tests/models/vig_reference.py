"""Weights and inputs behind vig_official_reference.json, rule by rule."""

import json
import zlib
from pathlib import Path

import numpy as np
import timm
import torch

import hagvig_lib  # noqa: F401  registers the names
from hagvig_lib.models.checkpoints import from_official

OFFICIAL = json.loads(
    Path(__file__).with_name("vig_official_reference.json").read_text()
)
# The names in it -> timm's.
MODELS = {
    "vig_tiny": "vig_tiny_patch16_224",
    "vig_small": "vig_small_patch16_224",
    "vig_base": "vig_base_patch16_224",
    "vig_h_tiny": "vig_h_tiny",
    "vig_h_small": "vig_h_small",
    "vig_h_base": "vig_h_base",
}


def filled(model, fill):
    """The timm model, each tensor filled after its official name.

    Fill A has small weights, by which constants and eps show; fill B
    activations of order one and strong gates.
    """
    state_dict = {
        name: _tensor(name, shape, fill)
        for name, shape in OFFICIAL["models"][model]["names_shapes"]
    }
    vig = timm.create_model(MODELS[model])
    vig.load_state_dict(from_official(state_dict, MODELS[model]))
    return vig


def image():
    seed = zlib.crc32(b"vig_ref_input:2x224x224")
    x = np.random.RandomState(seed).standard_normal((2, 3, 224, 224))
    return torch.from_numpy(x[:1].astype(np.float32))


def _tensor(name, shape, fill):
    x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    flat, bias = len(shape) == 1, name.endswith(".bias")
    if fill == "A":
        x = (0.02 * x if bias else 1 + 0.1 * x) if flat else 0.05 * x
    elif name == "pos_embed":
        x = 0.5 * x
    elif name.endswith("gk_proj.1.bias"):
        x = 2 * x
    elif flat:
        x = 0.1 * x if bias else 1 + 0.2 * x
    elif not name.endswith("gk_proj.1.weight"):
        x = x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(x, dtype=np.float32))
