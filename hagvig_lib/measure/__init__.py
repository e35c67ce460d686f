"""Measuring in a way that can be compared and repeated."""

from .cost import costs
from .timing import interleaved

__all__ = ["costs", "interleaved"]
