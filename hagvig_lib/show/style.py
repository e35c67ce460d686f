"""One look for every figure, safe for colour-blind readers."""

import matplotlib as mpl
from cycler import cycler

# Seven colours that Okabe and Ito (2008) chose for colour-blind readers, and
# a grey for what is not the point. Lines differ by marker or style too.
COLOURS = {
    "black": "#000000",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "grey": "#767676",
}


def style() -> None:
    """Set matplotlib's defaults for a chapter."""
    mpl.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=list(COLOURS.values())[1:]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.figsize": (6.4, 3.2),
            "image.cmap": "cividis",
            "legend.frameon": False,
        }
    )
