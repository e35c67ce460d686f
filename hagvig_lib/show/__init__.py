"""What chapters show with: text with numbers, sliders, style, run footer."""

from .footer import footer
from .slider import slider
from .style import COLOURS, style
from .text import text

__all__ = ["COLOURS", "footer", "slider", "style", "text"]
