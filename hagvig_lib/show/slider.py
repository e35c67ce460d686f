"""A figure with a slider that needs no kernel: frames are drawn in advance."""

import base64
import hashlib
import html
import io
import itertools
import json
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
from IPython.display import HTML, display
from matplotlib.figure import Figure

# Ids must differ in a page, even when the same slider is shown twice.
_COUNT = itertools.count(1)
_PLAYER = """\
<figure class="figplayer" id="{id}">
<img src="{source}" alt="{alt}" style="max-width:100%">
<div class="figplayer-control">
<label for="{id}-range">{label}</label>
<input id="{id}-range" type="range" min="0" max="{last}" value="{start}"
 step="1" aria-valuetext="{value}" style="vertical-align:middle;width:50%">
<output for="{id}-range">{value}</output></div>
{caption}
<script>(() => {{
const frames = {frames};
const figure = document.getElementById("{id}");
const range = figure.querySelector("input");
range.addEventListener("input", () => {{
  const frame = frames[+range.value], image = figure.querySelector("img");
  image.src = frame.source;
  image.alt = frame.alt;
  figure.querySelector("output").textContent = frame.value;
  range.setAttribute("aria-valuetext", frame.value);
}});
}})();</script></figure>"""


def slider(
    draw: Callable[..., Figure],
    values: Sequence,
    *,
    label: str,
    alt: str,
    caption: str = "",
    start: int = 0,
) -> None:
    """Display one picture for each value, and a slider that picks it.

    It moves by mouse, touch and arrow keys in the static book, in Colab and
    in JupyterLab. Each frame is a WebP of about 10 to 20 KB in the page.

    Args:
        draw: value -> Figure; the figure is saved and closed.
        values: what the slider runs over; shown by `str`.
        label: what the values are, with their unit.
        alt: describes a frame to a reader who can't see it; holds `{value}`.
        caption: one sentence below the slider, as HTML.
        start: index of the frame shown first, -1 for the last.

    Raises:
        ValueError: no values, or `alt` is the same for every frame.
    """
    if len(values) == 0:
        raise ValueError("slider: values is empty; there is nothing to show")
    if "{value}" not in alt:
        raise ValueError(f"slider: alt must contain {{value}}, got {alt!r}")
    frames = [
        {
            "source": _data_uri(draw(value)),
            "value": str(value),
            "alt": alt.replace("{value}", str(value)),
        }
        for value in values
    ]
    start %= len(frames)
    first = frames[start]
    content = json.dumps(frames)
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    display(
        HTML(
            _PLAYER.format(
                id=f"figplayer-{digest}-{next(_COUNT)}",
                source=first["source"],
                alt=html.escape(first["alt"]),
                value=html.escape(first["value"]),
                label=html.escape(label),
                last=len(frames) - 1,
                start=start,
                caption=caption and f"<figcaption>{caption}</figcaption>",
                frames=content.replace("</", "<\\/"),
            )
        )
    )


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="webp", dpi=110)
    plt.close(figure)
    return "data:image/webp;base64," + base64.b64encode(
        buffer.getvalue()
    ).decode("ascii")
