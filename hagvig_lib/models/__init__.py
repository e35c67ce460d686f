"""Networks of the two papers; importing this registers their timm names."""

from . import gated, vig, vig_hierarchical
from .multistream import CHANNELS, MultiStreamNet
from .vig import ViG
from .vig_hierarchical import ViGHierarchical

__all__ = [
    "CHANNELS",
    "MultiStreamNet",
    "ViG",
    "ViGHierarchical",
    "gated",
    "vig",
    "vig_hierarchical",
]
