"""Checkpoints of the released ViG: read, renamed, checked, renamed back.

::

    weights = from_official(read_checkpoint(path), "vig_tiny_patch16_224")
    model.load_state_dict(weights)

`timm.create_model(name, checkpoint_path=path)` does the same. Tensors are
alike one by one, only their names differ; the two released families name
one and the same block differently. The published accuracies of plain ViG
are those of `halving="official-eval"`, which `pretrained=True` chooses.

Official: https://github.com/hustvl/ViG/tree/dfb9d32, whose code gives the
names and shapes. Its published files were never opened here.
"""

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

StateDict = dict[str, Tensor]
Shapes = dict[str, torch.Size]

# Ours (a pattern) and theirs, in the order in which they are replaced.
MIXER = {
    r"\.attn\.conv\.": ".attn.in_proj.0.",
    r"\.attn\.qkv\.": ".attn.qkv_proj.",
    r"\.attn\.gate\.": ".attn.gk_proj.",
    r"\.attn\.locality\.": ".attn.g_proj.",
    r"\.attn\.proj\.": ".attn.o_proj.",
    r"\.scan_norm\.": ".g_norm.",
    r"\.local_norm\.": ".l_norm.",
}
PLAIN = MIXER | {
    r"^stem\.": "patch_embed.proj.",
    r"\.norm1\.": ".attn_norm.",
    r"\.norm2\.": ".mlp_norm.",
    r"\.fc1\.": ".gate_proj.",
    r"\.fc2\.": ".down_proj.",
    r"^head\.fc\.": "head.",
}
STEM = {0: 0, 1: 2, 3: 5, 4: 7}
HIERARCHICAL = (
    MIXER
    | {rf"^stem\.{i}\.": f"patch_embed.{j}." for i, j in STEM.items()}
    | {
        rf"^stages\.{stage + 1}\.downsample\.{i}\.": (
            f"layers.{stage}.downsample.{2 * i + 1}."
        )
        for stage in range(3)
        for i in range(2)
    }
    | {
        r"^stages\.": "layers.",
        r"\.norm1\.": ".norm.",
        r"\.attn\.": ".op.",
        r"^norm\.": "classifier.norm.",
        r"^head\.fc\.": "classifier.head.",
    }
)


def read_checkpoint(path: str | Path) -> StateDict:
    """The state dict in a `.safetensors` or PyTorch file, on the CPU.

    Of a training checkpoint the averaged weights, `model_ema`, before
    `model`. No code in a file is ever run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or no checkpoint, or a pickle with
            more than tensors in it.
    """
    try:
        if Path(path).suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, "cpu", weights_only=True)
    except (RuntimeError, EOFError, SafetensorError) as error:
        raise ValueError(
            f"{path} is truncated or no checkpoint: download it again"
        ) from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than weights, or is damaged: it was not "
            "loaded, for a pickle can run code; ask for safetensors"
        ) from error
    return _unwrapped(content)


def from_official(
    state_dict: Mapping[str, Any], model_name: str, **options: Any
) -> StateDict:
    """Rename a released state dict; its tensors stay as they are.

    ViG-H's linear layers may also have weights [out, in, 1, 1].

    Args:
        model_name: one of the six ViG names in timm.
        options: of `timm.create_model`: `num_classes` and `in_chans`, where
            the checkpoint has others than 1000 and 3.

    Raises:
        ValueError: keys are missing, unexpected or misshapen; names some.
    """
    shapes = _shapes(model_name, **options)
    return _renamed(state_dict, shapes, official_names(shapes), model_name)


def to_official(
    state_dict: Mapping[str, Any], model_name: str, **options: Any
) -> StateDict:
    """The inverse of `from_official`, with the same arguments and errors."""
    shapes = _shapes(model_name, **options)
    names = official_names(shapes)
    theirs = {names[key]: shapes[key] for key in shapes}
    ours = {names[key]: key for key in shapes}
    return _renamed(state_dict, theirs, ours, model_name)


def official_names(keys: Iterable[str]) -> dict[str, str]:
    """Our key -> the released one, of all keys of one ViG."""
    names = {key: key for key in keys}
    rules = PLAIN if "pos_embed" in names else HIERARCHICAL
    for ours, theirs in rules.items():
        names = {key: re.sub(ours, theirs, names[key]) for key in names}
    return names


def filter_pretrained(content: Any, model: Any) -> StateDict:
    """For timm's `pretrained_filter_fn`: a file's content, in our names.

    Raises:
        ValueError: as `from_official`, unless our model has saved it.
    """
    state_dict = _unwrapped(content)
    config = model.pretrained_cfg
    name = config["architecture"].removeprefix("hag_")
    classes, in_chans = config["num_classes"], config["input_size"][0]
    shapes = _shapes(name, num_classes=classes, in_chans=in_chans)
    names = official_names(shapes)
    if state_dict.keys() & (names.keys() - names.values()):
        return state_dict
    return _renamed(state_dict, shapes, names, name)


def accept_official(model: nn.Module, state_dict, prefix, *others) -> None:
    """Load hook of a ViG, gated or not: it takes the released names too.

    Raises:
        ValueError: as `from_official`; nothing has been loaded then.
    """
    shapes = {
        key: tensor.shape
        for key, tensor in model.state_dict().items()
        if not key.endswith(".gate.logits")
    }
    names = official_names(shapes)
    given = {k[len(prefix) :]: k for k in state_dict if k.startswith(prefix)}
    if given.keys() & (set(names.values()) - names.keys()):
        theirs = {key: state_dict.pop(name) for key, name in given.items()}
        ours = _renamed(theirs, shapes, names, type(model).__name__)
        state_dict.update({prefix + key: ours[key] for key in ours})


def _shapes(model_name: str, **options: Any) -> Shapes:
    with torch.device("meta"):
        model = timm.create_model(model_name, **options)
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


def _unwrapped(content: Any) -> StateDict:
    for key in ("model_ema", "model"):
        if isinstance(content, Mapping) and key in content:
            content = content[key]
    if not isinstance(content, Mapping):
        raise ValueError(f"a {type(content).__name__} is no state dict")
    return dict(content)


def _renamed(
    given: Mapping[str, Any], shapes: Shapes, names: dict[str, str], model: str
) -> StateDict:
    """The tensor `given[names[key]]` of each key of `shapes`.

    Raises:
        ValueError: see `from_official`.
    """
    faults = {"missing": [], "unexpected": [], "misshapen": []}
    faults["unexpected"] += given.keys() - set(names.values())
    renamed = {}
    for key, shape in shapes.items():
        tensor = given.get(names[key])
        found = getattr(tensor, "shape", None)
        if names[key] not in given:
            faults["missing"].append(names[key])
        elif found == (*shape, 1, 1):
            renamed[key] = given[names[key]].reshape(shape)
        elif found == shape:
            renamed[key] = tensor
        else:
            given_shape = "no tensor" if found is None else list(found)
            faults["misshapen"].append(
                f"{names[key]} is {given_shape}, not {list(shape)}"
            )
    if any(faults.values()):
        listed = "; ".join(
            f"{len(keys)} {fault}: {_some(keys)}"
            for fault, keys in faults.items()
            if keys
        )
        raise ValueError(
            f"no checkpoint of {model} with these classes and channels "
            f"({listed}): give that model's own file"
        )
    return renamed


def _some(keys: list[str], shown: int = 3) -> str:
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return ", ".join(sorted(keys)[:shown]) + more
