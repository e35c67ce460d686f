"""Timing in a way that can be compared and repeated."""

from .timing import interleaved

__all__ = ["interleaved"]
