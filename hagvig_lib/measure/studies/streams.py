"""What do streams and gates add to the size of a polyp? (chapter 6)

Small networks learn polyp sizes from the SYNTHETIC colonoscopy: the stream
sets of the paper and all three together, each ungated, gated and trained in
one pass (joint), gated and routed. Nothing else differs: loss, data, order,
initial weights, steps. Six folds by patient, seed k tests fold k: a seed
changes the patients, the initial weights and the order together. Controls:
a gated network whose depth maps come from other frames, and the baselines
of chapter 5 on the same folds.

What would count, said beforehand: differences of the error per frame (MAE)
are paired by seed; a comparison is an effect if the mean difference is at
least 0.1 mm and its 95 % interval (Student's t, Bonferroni over its family)
leaves out 0. The families: what gates do, joint and routed against ungated,
per stream set; what a second pass does, routed against joint, per set; what
streams do, every set against `location` and against the baseline apparent
size, ungated. A gate says which stream matters if in the control the
shuffled depth has lower gates than the real one by the same standard, with
0.1 for 0.1 mm.

What was not blind: width, epochs and learning rates were chosen in pilots on
folds 0 and 1 of fewer patients, nearly all of them ungated; all arms of seed
0 had been seen in a pilot before the final runs.
"""

import tempfile
from functools import lru_cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from ...data.folds import patient_folds, split
from ...data.polyp_frames import PolypFrames
from ...data.sizes import SizeScale
from ...data.synthetic_colonoscopy import write
from ...gates import (
    add_gates,
    gate_parameters,
    named_gates,
    weight_parameters,
)
from ...models import MultiStreamNet
from ...training import (
    BASELINES,
    Batches,
    fit,
    frame_metrics,
    per_polyp,
    predict,
    size_loss,
)

STREAMS = ("rgb", "location", "depth")
SETS = (
    "rgb",
    "location",
    "depth",
    "rgb+depth",
    "location+depth",
    "rgb+location+depth",
)
ARMS = ("ungated", "joint", "routed")
GRID = [(streams, arm) for streams in SETS for arm in ARMS]
GRID += [("rgb+shuffled depth", "joint")]
GRID += [("baseline", name) for name in BASELINES]
RUNS = [
    {"streams": streams, "arm": arm, "seed": seed}
    for seed in range(6)
    for streams, arm in GRID
]
# Each compares the first with the second.
FAMILIES = {
    "gates": [
        ((streams, arm), (streams, "ungated"))
        for arm in ("joint", "routed")
        for streams in SETS
    ],
    "second pass": [
        ((streams, "routed"), (streams, "joint")) for streams in SETS
    ],
    "streams": [
        ((streams, "ungated"), other)
        for other in (("location", "ungated"), ("baseline", "apparent size"))
        for streams in SETS
        if streams != other[0]
    ],
}
SOURCES = (
    "data/folds.py",
    "data/frame_table.py",
    "data/polyp_frames.py",
    "data/sizes.py",
    "data/streams.py",
    "data/synthetic_*.py",
    "gates/gate.py",
    "gates/inspection.py",
    "gates/sites.py",
    "measure/studies/streams.py",
    "models/multistream.py",
    "routing.py",
    "training/*.py",
)
PATIENTS, FRAMES, FOLDS, SIZE = 200, 4, 6, 32  # FRAMES of each polyp
EPOCHS, BATCH = 6, 32
LEARNING_RATE, GATE_LEARNING_RATE = 5e-3, 5e-2  # of OneCycle, at its top


def network(streams: tuple[str, ...]) -> MultiStreamNet:
    """Ungated, per stream a ResNet-10 of an eighth of the usual width."""
    narrow = {"channels": (8, 16, 32, 64), "stem_width": 8}
    return MultiStreamNet("resnet10t", streams, hidden=32, **narrow)


@lru_cache(maxsize=1)
def frames(
    patients: int = PATIENTS, seed: int = 0
) -> tuple[dict[str, Tensor], Tensor, pd.DataFrame]:
    """Inputs of all three streams [N, C, 32, 32], sizes in mm [N], table."""
    with tempfile.TemporaryDirectory() as folder:
        table = write(folder, patients, seed=seed, frames=FRAMES)
        data = PolypFrames(table, folder, STREAMS, SIZE)
        items = [data[row] for row in range(len(data))]
    inputs = {
        name: torch.stack([streams[name] for streams, _ in items])
        for name in STREAMS
    }
    table = patient_folds(data.table.reset_index(drop=True), FOLDS, seed)
    return inputs, torch.stack([size for _, size in items]), table


def run(streams: str, arm: str, seed: int) -> dict[str, Any]:
    """Train one network, or fit one baseline, and test it on fold `seed`.

    Returns:
        Metrics per frame and, with `polyp_` in front, per polyp; of a
        network `importance <stream>`, mm by which the error grows when the
        stream shows other test frames; of a gated one `gate <stream>`, the
        mean of its gates, `spread <stream>`, their standard deviation.
    """
    inputs, size_mm, table = frames()
    train, _, test = split(table, seed, "no validation")
    if streams == "baseline":
        return _scores(test, BASELINES[arm](train, test))
    if "shuffled" in streams:
        other = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(size_mm), generator=other)
        inputs = inputs | {"depth": inputs["depth"][order]}
    names = tuple(name for name in STREAMS if name in streams)

    torch.manual_seed(seed)
    net = network(names)
    if arm != "ungated":
        add_gates(net)
    rows, held_out = (torch.tensor(part.index) for part in (train, test))
    learn(
        net,
        {name: inputs[name][rows] for name in names},
        size_mm[rows],
        seed,
        routed=arm == "routed",
    )
    shown = {name: inputs[name][held_out] for name in names}
    scores = _scores(test, sizes(net, shown))
    order = torch.randperm(len(held_out))
    for name in names:
        mixed = sizes(net, shown | {name: shown[name][order]})
        error = frame_metrics(test.size_mm, mixed)["mae"]
        scores[f"importance {name}"] = error - scores["mae"]
    return scores | (_gates(net) if arm != "ungated" else {})


def learn(
    net: nn.Module,
    inputs: dict[str, Tensor],
    size_mm: Tensor,
    seed: int,
    routed: bool,
) -> pd.DataFrame:
    """Train a network, gated or not, as in every run; the history."""
    batches = Batches(inputs, size_mm, BATCH, seed)
    steps = EPOCHS * len(batches)
    weights = Adam(weight_parameters(net))
    gates = Adam(group) if (group := gate_parameters(net)) else None
    schedules = [OneCycleLR(weights, LEARNING_RATE, steps)]
    if gates:
        schedules += [OneCycleLR(gates, GATE_LEARNING_RATE, steps)]
    return fit(
        net,
        batches,
        size_loss,
        epochs=EPOCHS,
        weight_optimizer=weights,
        gate_optimizer=gates,
        routed=routed,
        schedules=schedules,
        quiet=True,
    )


def sizes(net: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """The network's estimates in mm, [N]."""
    return SizeScale().mm(predict(net, [(inputs, None)])[:, 0])


def stream_gates(net: nn.Module) -> dict[str, Tensor]:
    """All gates of each stream's own stages, as one vector per stream."""
    values: dict[str, list[Tensor]] = {}
    for site, gate in named_gates(net).items():
        if site.startswith("streams."):
            name = site.split(".")[1]
            values.setdefault(name, []).append(gate.values().detach())
    return {name: torch.cat(parts) for name, parts in values.items()}


def _scores(test: pd.DataFrame, predicted_mm: Any) -> dict[str, float]:
    polyps = per_polyp(test, predicted_mm)
    of_polyps = frame_metrics(polyps.size_mm, polyps.predicted_mm)
    return frame_metrics(test.size_mm, predicted_mm) | {
        f"polyp_{name}": value for name, value in of_polyps.items()
    }


def _gates(net: nn.Module) -> dict[str, float]:
    found = stream_gates(net)
    return {f"gate {name}": v.mean().item() for name, v in found.items()} | {
        f"spread {name}": v.std().item() for name, v in found.items()
    }
