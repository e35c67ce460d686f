"""Accesses of the GLA kernels land on the tokens that they belong to."""

from collections import Counter

import matplotlib.pyplot as plt
import pytest
import torch

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("needs Triton's interpreter", allow_module_level=True)

# Not before the skip: they import parts of the interpreter.
from hagvig_lib.gla.triton import launch  # noqa: E402
from hagvig_lib.gla.triton.configurations import configuration  # noqa: E402
from hagvig_lib.measure.kernel_traffic import listening  # noqa: E402
from hagvig_lib.show.kernel_steps import draw_steps, tokens_of  # noqa: E402

COLOURS = dict.fromkeys(
    ("q", "k", "v", "log_gate_fwd", "log_gate_bwd", "output"), "blue"
) | {"copies": "grey"}


@pytest.fixture(scope="module")
def forward():
    """Log of a launch on 40 tokens, and the length of its chunks."""
    inputs = [-torch.rand(1, 40, 1, 16) for _ in range(5)]
    C = configuration("forward", 16, 16, 4).chunk
    with listening() as log:
        launch.bidirectional(*inputs, 1.0)
    return log, C


def test_each_number_is_read_as_often_as_two_sweeps_need(forward):
    log, C = forward
    touched = Counter()
    for event in log:
        if event.argument:
            for token in range(*tokens_of(event, C, T=40)):
                touched[event.argument, token] += 1
    twice = "k", "v", "log_gate_bwd", "copies"
    expected = {
        (name, token): 1 + (name in twice)
        for name in COLOURS
        for token in range(40)
    }
    assert touched == expected


def test_sweeps_go_up_and_down_again(forward):
    log, C = forward
    keys = [event for event in log if event.argument == "k"]
    firsts = [tokens_of(event, C, T=40)[0] for event in keys]
    chunks = list(range(0, 40, C))
    assert firsts == chunks[::-1] + chunks


def test_a_picture_has_a_bar_for_each_access_and_a_name_in_each_copy(forward):
    log, C = forward
    figure, axes = plt.subplots()
    draw_steps(axes, log, C, 40, COLOURS, ("S",))
    actions = Counter(event.action for event in log)
    assert len(axes.patches) == actions["load"] + actions["store"]
    lefts = [bar.get_x() for bar in axes.patches]
    assert lefts == list(range(len(lefts)))
    assert len(axes.lines) == actions["store"]
    names = [text.get_text() for text in axes.texts]
    assert names == ["S"] * (2 * -(-40 // C))
    plt.close(figure)
