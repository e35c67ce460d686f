"""Draw the picture on the index page: both systems, computed, not sketched.

python book/_tools/overview.py FOLDER writes overview-light.svg and -dark.svg.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from hagvig_lib.gates import HardAttentionGate
from hagvig_lib.gla import gla

INK = {"light": "#222222", "dark": "#e8e8e8"}


def draw(folder: Path) -> None:
    """Write the picture in dark ink and in light ink."""
    for theme, ink in INK.items():
        figure = _figure(ink)
        figure.savefig(
            folder / f"overview-{theme}.svg",
            transparent=True,
            metadata={"Date": None},
        )
        plt.close(figure)


def _figure(ink: str):
    settings: dict[Any, Any] = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.edgecolor": ink,
        "font.size": 10,
        "svg.hashsalt": "overview",
    }
    with plt.rc_context(settings):
        figure, rows = plt.subplots(
            2, 3, figsize=(8.2, 5.4), layout="constrained"
        )
        _feature_row(rows[0])
        _memory_row(rows[1])
        for axes in rows.flat:
            axes.set_xticks([])
            axes.set_yticks([])
        for axes, sign in ((rows[0, 1], "×"), (rows[0, 2], "=")):
            _sign(axes, sign)
        for axes, sign in ((rows[1, 1], "+"), (rows[1, 2], "=")):
            _sign(axes, sign)
    return figure


def _sign(axes: Axes, sign: str) -> None:
    axes.text(-0.11, 0.5, sign, transform=axes.transAxes, size=18, ha="center")


def _feature_row(row) -> None:
    """Six images by eight channels, times one row of gates."""
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(6, 8, generator=generator)
    gate = HardAttentionGate(8, dim=-1)
    with torch.no_grad():
        gate.logits.copy_(torch.tensor([3.0, -6, 2, 1, -7, -5, 4, -1]))
        values = torch.sigmoid(gate.logits)
        gated = gate(features)
    pictures = (features, values.expand(6, 8), gated)
    titles = ("features", "one gate a channel,\nsame for every image", "kept")
    for axes, picture, title in zip(row, pictures, titles, strict=True):
        axes.imshow(picture, cmap="cividis", vmin=0, vmax=1)
        axes.set(title=title, xlabel="channel")
    row[0].set_ylabel("A gate on a feature\n\nimage")


def _memory_row(row) -> None:
    """What each of 14 tokens reads from the others, both directions."""
    tokens = 14
    generator = torch.Generator().manual_seed(1)
    ones = torch.ones(1, tokens, 1, 1)
    identity = torch.eye(tokens).view(1, tokens, 1, tokens)
    reads = []
    for reverse in (False, True):
        log_gate = -0.6 * torch.rand(1, tokens, 1, 1, generator=generator)
        log_gate[:, 9 if reverse else 5] = -4  # one token forgets the past
        read = gla(ones, ones, identity, log_gate, scale=1, reverse=reverse)
        reads.append(read[0, :, 0])
    pictures = (*reads, sum(reads))
    titles = ("read left to right", "read right to left", "both")
    for axes, picture, title in zip(row, pictures, titles, strict=True):
        axes.imshow(picture, cmap="cividis")
        axes.set(title=title, xlabel="token read")
    row[0].set_ylabel("A gate on a memory\n\ntoken that reads")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
