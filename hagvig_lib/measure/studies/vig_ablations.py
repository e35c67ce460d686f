"""What does each part of ViG's mixer do for a small network? (chapter 12)

The small ViG of `resolution_transfer` learns 1,400 framed garments and is
tested on 1,000 others, whole and with one part of its mixers missing:

- `reshuffled`, whole, its batches in another order: the null arm;
- `shared gate`, one log gate for both directions;
- `one direction`, the forward scan alone;
- `no decay`, all gates of the scans open for good: nothing is forgotten;
- `no locality`, neither the convolution nor the local branch;
- `no scan`, the local branch alone; its scans are computed and not used.

Garments, steps and rates are the same; weights are not as many: an arm
lacks those of its part, and without locality every projection also reads
the tokens themselves, not their convolution. Seeds differ in their training
garments (no two seeds share one), frames, initial weights and order; the
arms of one seed share all weights of the same name and shape.

What would count, said beforehand: differences of test accuracy to `whole`
are paired by seed, and a part matters here if the mean difference is at
least two points and its 95 % interval (Student's t, Bonferroni over the six
arms) leaves out 0. If `no scan` does not differ from `whole`, garments in
36 tokens do not ask for a scan, and this study says nothing about scans.
The null arm must not differ. The learning rate is that of
`resolution_transfer`, chosen on seed 0, which is not in the study; of the
arms only `whole` had been seen there.
"""

from typing import Any

import torch
from torch import nn

from ...models.vig import ViG
from . import resolution_transfer as shared

KEYWORDS = {
    "shared gate": {"scan": "shared-gate"},
    "one direction": {"scan": "one-direction"},
    "no locality": {"locality": False},
}
# Layers of every mixer whose output is held where its sigmoid is 1 or 0.
HELD = {"no decay": ("gate.1", 40.0), "no scan": ("locality", -40.0)}
ARMS = ("whole", "reshuffled", *KEYWORDS, *HELD)
RUNS = [{"arm": arm, "seed": seed} for seed in range(1, 7) for arm in ARMS]
SOURCES = (*shared.SOURCES, "measure/studies/vig_ablations.py")
EPOCHS = 10


def run(arm: str, seed: int) -> dict[str, float]:
    """Train one network.

    Returns:
        Accuracies `train` and `test`, 0 to 1.
    """
    net = network(arm, seed)
    order = seed + 1000 * (arm == "reshuffled")
    shared.learn(net, shared.training_batches(seed, order), EPOCHS)
    side = shared.SIDES[0]
    return {
        "train": shared.accuracy(net, side, seed),
        "test": shared.accuracy(net, side),
    }


def network(arm: str, seed: int) -> ViG:
    """Untrained; weights of the same name and shape are equal in all arms."""
    torch.manual_seed(seed)
    whole = shared.small_vig()
    if arm in KEYWORDS:
        net = shared.small_vig(**KEYWORDS[arm])
        shapes = {name: w.shape for name, w in net.state_dict().items()}
        common = {
            name: weight
            for name, weight in whole.state_dict().items()
            if shapes.get(name) == weight.shape
        }
        net.load_state_dict(common, strict=False)
        return net
    for block in whole.blocks if arm in HELD else ():
        name, value = HELD[arm]
        layer: Any = block.get_submodule(f"attn.{name}")
        nn.init.zeros_(layer.requires_grad_(False).weight)
        nn.init.constant_(layer.bias, value)
    return whole
