"""A slider works in any page: its own id, its own alt text, any values."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from hagvig_lib.show import slider

mpl.use("agg")


@pytest.fixture
def pages(monkeypatch):
    """The HTML that was displayed, one entry a slider."""
    shown = []
    # The function hides the module of the same name.
    scope = slider.__globals__
    monkeypatch.setitem(scope, "display", lambda html: shown.append(html.data))
    return shown


def draw(value):
    figure = Figure(figsize=(1, 1))
    figure.text(0, 0, value)
    return figure


def test_same_slider_twice_has_two_ids(pages):
    for _ in range(2):
        slider(draw, [1, 2], label="step", alt="{value}")
    ids = [re.search(r'id="(figplayer[^"]*)"', page)[1] for page in pages]
    assert ids[0] != ids[1]
    for name, page in zip(ids, pages, strict=True):
        assert f'getElementById("{name}")' in page


def test_first_frame_is_the_one_that_start_names(pages):
    slider(
        draw, np.array([3, 5, 7]), label="s", alt="$q_{t}$ {value}", start=-1
    )
    assert 'alt="$q_{t}$ 7"' in pages[0]
    assert 'max="2" value="2"' in pages[0]


def test_values_cannot_break_out_of_the_page(pages):
    slider(draw, ["</script><b>"], label="<i>", alt='"{value}')
    assert "</script><b>" not in pages[0].replace("<\\/script>", "")
    assert "&lt;i&gt;" in pages[0]
    assert pages[0].count("</script>") == 1


@pytest.mark.parametrize(
    ("values", "alt", "message"),
    [([], "{value}", "values is empty"), ([1], "dots", "alt must contain")],
)
def test_nothing_to_show_or_nothing_to_say_is_refused(values, alt, message):
    with pytest.raises(ValueError, match=message):
        slider(draw, values, label="s", alt=alt)
