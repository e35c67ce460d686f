"""Training networks that estimate sizes: losses, metrics, baselines, loop."""

from .baselines import BASELINES
from .batches import Batches
from .loop import fit, predict
from .losses import size_loss
from .metrics import bootstrap, frame_metrics, per_polyp

__all__ = [
    "BASELINES",
    "Batches",
    "bootstrap",
    "fit",
    "frame_metrics",
    "per_polyp",
    "predict",
    "size_loss",
]
