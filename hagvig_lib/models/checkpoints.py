"""Checkpoints of the released ViG: read, renamed, checked, renamed back.

::

    weights = from_official(read_checkpoint(path), "vig_tiny_patch16_224")
    model.load_state_dict(weights)

For other classes, for features, and with the halving of the release::

    timm.create_model(name, pretrained=True,
                      pretrained_cfg_overlay={"file": path})

No code in a file is run, by either. `checkpoint_path=path` leaves reading
to timm, whose older versions (1.0.20) do run it: there it is for files that
you trust. Tensors are alike one by one, only their names differ; the two
released families name one and the same block differently.

Official: https://github.com/hustvl/ViG/tree/dfb9d32, whose code gives names
and shapes. Its published files were never opened here.
"""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn

from .official_names import names_in, official_names, renamed
from .vig_block import VisionGLA

StateDict = dict[str, Tensor]
Shapes = dict[str, torch.Size]


def read_checkpoint(path: str | Path) -> StateDict:
    """The state dict in a `.safetensors` or PyTorch file, on the CPU.

    Of a training checkpoint the averaged weights, before the others; timm's
    `load_state_dict` finds them. No code in a file is ever run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or no checkpoint, or a pickle with
            more than tensors in it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        return load_state_dict(str(path), weights_only=True)
    except pickle.UnpicklingError as error:
        fault = error
    except (RuntimeError, EOFError, SafetensorError) as error:
        fault = error.__cause__ or error  # newer versions of timm wrap it
    except AttributeError as error:  # it asks whatever it finds for items
        raise ValueError(
            f"{path} is no state dict: give a file with names and tensors"
        ) from error
    if isinstance(fault, pickle.UnpicklingError):
        raise ValueError(
            f"{path} holds more than weights, or is damaged: it was not "
            "loaded, for a pickle can run code; ask for safetensors"
        ) from fault
    raise ValueError(
        f"{path} is truncated or no checkpoint: download it again"
    ) from fault


def read_source(config: Any, cache_dir: Any = None) -> StateDict | None:
    """What a timm pretrained config points to, read by `read_checkpoint`.

    Returns:
        None for a source that timm itself reads without running code.
    """
    if config.state_dict or config.source in ("hf-hub", "local-dir"):
        return config.state_dict
    path = config.file
    if not path and config.hf_hub_filename:
        path = hf_hub_download(
            config.hf_hub_id, config.hf_hub_filename, cache_dir=cache_dir
        )
    return read_checkpoint(path) if path else None


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
    return renamed(state_dict, shapes, official_names(shapes), model_name)


def to_official(
    state_dict: Mapping[str, Any], model_name: str, **options: Any
) -> StateDict:
    """The inverse of `from_official`, with the same arguments and errors."""
    shapes = _shapes(model_name, **options)
    names = official_names(shapes)
    theirs = {names[key]: shapes[key] for key in shapes}
    ours = {names[key]: key for key in shapes}
    return renamed(state_dict, theirs, ours, model_name)


def filter_pretrained(
    state_dict: Mapping[str, Any], model: Any, halving: str | None = None
) -> StateDict:
    """For timm's `pretrained_filter_fn`: weights in our names.

    Released ones also set the halving of the mixers.

    Args:
        halving: keep this one.

    Raises:
        ValueError: as `from_official`, for weights in our names too.
    """
    config = model.pretrained_cfg
    config.pop("state_dict", None)  # else every copy of the model has it
    name = config["architecture"].removeprefix("hag_")
    classes, in_chans = config["num_classes"], config["input_size"][0]
    shapes = _shapes(name, num_classes=classes, in_chans=in_chans)
    names = names_in(state_dict, shapes)
    ours = renamed(state_dict, shapes, names, name)
    released = names["head.fc.weight"] != "head.fc.weight"
    chosen = model.released_halving
    if released and halving is None and chosen != "mean":
        for module in model.modules():
            if isinstance(module, VisionGLA):
                module.halving = chosen
        logging.getLogger(__name__).warning(
            "%s has halving=%r, as these weights were released: give "
            "halving to choose another",
            name,
            chosen,
        )
    return ours


def accept_official(model: nn.Module, state_dict, prefix, *others) -> None:
    """Load hook of a ViG, gated or not: it takes the released names too.

    What it does not know it leaves to torch, which tells no hook whether a
    load is strict. A ViG by itself checks before it copies; of one inside
    another module torch, as of any, copies what fits and raises then.
    """
    given = {k[len(prefix) :]: k for k in state_dict if k.startswith(prefix)}
    theirs = {key: state_dict.pop(name) for key, name in given.items()}
    ours = in_our_names(model, theirs, strict=False)
    state_dict.update({prefix + key: ours[key] for key in ours})


def in_our_names(
    model: nn.Module, state_dict: Mapping[str, Any], strict: bool = True
) -> StateDict:
    """Weights for a model as it is now; those of its gates may be missing.

    Raises:
        ValueError: `strict`, and as `from_official`.
    """
    shapes = {
        key: tensor.shape
        for key, tensor in model.state_dict().items()
        if key in state_dict or not key.endswith(".gate.logits")
    }
    names = names_in(state_dict, shapes)
    return renamed(state_dict, shapes, names, type(model).__name__, strict)


def _shapes(model_name: str, **options: Any) -> Shapes:
    with torch.device("meta"):
        model = timm.create_model(model_name, **options)
    return {key: tensor.shape for key, tensor in model.state_dict().items()}
