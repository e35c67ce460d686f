"""What the released ViG calls the tensors of ours.

Official: `classification/models/` in
https://github.com/hustvl/ViG/tree/dfb9d32
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

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


def official_names(keys: Iterable[str]) -> dict[str, str]:
    """Our key -> the released one, of all keys of one ViG."""
    names = {key: key for key in keys}
    rules = PLAIN if "pos_embed" in names else HIERARCHICAL
    for ours, theirs in rules.items():
        names = {key: re.sub(ours, theirs, names[key]) for key in names}
    return names


def names_in(
    given: Mapping[str, Any], shapes: dict[str, torch.Size]
) -> dict[str, str]:
    """Our key -> the one in `given`: the released name, or the same."""
    names = official_names(shapes)
    if given.keys() & (set(names.values()) - names.keys()):
        return names
    return {key: key for key in names}


def renamed(
    given: Mapping[str, Any],
    shapes: dict[str, torch.Size],
    names: dict[str, str],
    model: str,
    strict: bool = True,
) -> dict[str, Tensor]:
    """The tensor `given[names[key]]` of each key of `shapes`.

    Without `strict` whatever is there, and what no key names as it is.

    Raises:
        ValueError: `strict`, and see `from_official`.
    """
    faults = {"missing": [], "unexpected": [], "misshapen": []}
    faults["unexpected"] += given.keys() - set(names.values())
    ours = {}
    for key, shape in shapes.items():
        if names[key] not in given:
            faults["missing"].append(names[key])
            continue
        ours[key] = tensor = given[names[key]]
        found = getattr(tensor, "shape", None)
        if found == (*shape, 1, 1):
            ours[key] = tensor.reshape(shape)
        elif found != shape:
            given_shape = "no tensor" if found is None else list(found)
            faults["misshapen"].append(
                f"{names[key]} is {given_shape}, not {list(shape)}"
            )
    if not strict:
        return ours | {key: given[key] for key in faults["unexpected"]}
    if any(faults.values()):
        listed = "; ".join(
            f"{len(keys)} {fault}: {_some(keys)}"
            for fault, keys in faults.items()
            if keys
        )
        at_ends = all(
            re.match(r"(classifier\.)?head\.|(stem|patch_embed)\b", key)
            for key in faults["misshapen"]
        )
        remedy = "give that model's own file"
        if at_ends and not (faults["missing"] or faults["unexpected"]):
            remedy = (
                "to adapt head and stem load it by pretrained=True, "
                "pretrained_cfg_overlay={'file': path, 'num_classes': "
                "its own}"
            )
        raise ValueError(
            f"no checkpoint of {model} with these classes and channels "
            f"({listed}): {remedy}"
        )
    return ours


def _some(keys: list[str], shown: int = 3) -> str:
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return ", ".join(sorted(keys)[:shown]) + more
