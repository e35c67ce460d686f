"""Which tokens a GLA kernel touches, access by access, as a picture."""

from collections import Counter

from matplotlib.axes import Axes

from ..measure.kernel_traffic import Event
from .style import COLOURS


def tokens_of(event: Event, C: int, T: int) -> tuple[int, int]:
    """First token of an access, and the first behind it.

    Args:
        event: a load or store of a kernel of hagvig_lib.gla.triton.
        C: tokens of a chunk; a copy of a state belongs to all of them.
        T: tokens.
    """
    if event.argument == "copies":  # [B * H, slices, states, chunks, ...]
        first = int(event.indices[3].min()) * C
        return first, min(first + C, T)
    token = event.indices[1]  # [B, T, H, channels]
    return int(token.min()), int(token.max()) + 1


def draw_steps(
    axes: Axes, log: list[Event], C: int, T: int, colours: dict, states: tuple
) -> None:
    """Order within a program to the right, tokens down.

    What is written has a white cross.

    Args:
        log: of one kernel; C, T: see `tokens_of`.
        colours: argument: name in `COLOURS`.
        states: names to write into the copies.
    """
    order, text = Counter(), {"color": "white", "fontsize": 6, "rotation": 90}
    for event in (event for event in log if event.argument):
        x, (first, behind) = order[event.program], tokens_of(event, C, T)
        order[event.program] += 1
        height, fill = behind - first - 0.5, COLOURS[colours[event.argument]]
        axes.bar(x, height, 0.9, first, align="edge", color=fill)
        if event.action == "store":
            axes.plot(x + 0.45, first + 1.2, "x", c="white", ms=3, mew=0.8)
        if event.argument == "copies":
            place, name = first + height / 2, states[event.indices[2].min()]
            axes.text(x + 0.2, place, name, va="center", **text)
    axes.set(ylim=(T, -0.6), ylabel="token")
