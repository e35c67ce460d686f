"""What is refused, and whether the message helps."""

import re

import pytest
import torch
from gla_definition import draw

from hagvig_lib.gla import bidirectional_gla, gla

NAMES = ("q", "k", "v", "log_gate", "initial_state")


def problem(**changes):
    """Keyword arguments of `gla`, some put through a function."""
    arguments = dict(zip(NAMES, draw(), strict=True))
    for name, change in changes.items():
        arguments[name] = change(arguments[name])
    return arguments


# q [2, 5, 2, 3], v [2, 5, 2, 4], initial_state [2, 2, 3, 4]
WRONG = [
    ({"q": lambda x: x[0]}, "q has shape [5, 2, 3]: expected four axes"),
    (
        {"q": lambda x: x[:, :0]},
        "q has shape [2, 0, 2, 3]: [B, T, H, K] needs",
    ),
    ({"q": lambda x: x[..., :0]}, "at least one token (T) and one channel"),
    (
        {"q": lambda x: x.long()},
        "q has dtype torch.int64: expected one of",
    ),
    (
        {"k": lambda x: x[..., :2]},
        "k has shape [2, 5, 2, 2], but q has shape [2, 5, 2, 3]: "
        "k must be [B, T, H, K] = [2, 5, 2, 3]",
    ),
    ({"k": lambda x: x[:1]}, "k has shape [1, 5, 2, 3], but q has"),
    ({"k": lambda x: x[0]}, "k has shape [5, 2, 3], but q has"),
    ({"k": lambda x: x.float()}, "k has dtype torch.float32, but q has"),
    (
        {"v": lambda x: x[:, :3]},
        "v has shape [2, 3, 2, 4], but q has shape [2, 5, 2, 3]: "
        "v must be [B, T, H, V] = [2, 5, 2, any]",
    ),
    ({"v": lambda x: x.transpose(1, 2)}, "v has shape [2, 2, 5, 4]"),
    ({"v": lambda x: x.half()}, "v has dtype torch.float16, but q has"),
    ({"log_gate": lambda x: x[:, :, :1]}, "log_gate has shape [2, 5, 1, 3]"),
    ({"log_gate": lambda x: x.float()}, "pass log_gate as torch.float64"),
    *(
        ({name: lambda x: x.to("meta")}, f"{name} is on meta, but q is on cpu")
        for name in NAMES[1:]
    ),
    (
        {"initial_state": lambda x: x.mT},
        "initial_state has shape [2, 2, 4, 3], but q has shape [2, 5, 2, 3]: "
        "initial_state must be [B, H, K, V] = [2, 2, 3, 4]",
    ),
    (
        {"initial_state": lambda x: x[:1]},
        "initial_state has shape [1, 2, 3, 4]",
    ),
    ({"initial_state": lambda x: x.bool()}, "initial_state has dtype"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        gla(**problem(**changes))


def test_bidirectional_names_the_gate_that_does_not_fit():
    q, k, v, gate, _ = draw()
    with pytest.raises(ValueError, match="log_gate_bwd has shape"):
        bidirectional_gla(q, k, v, gate, gate[:1])
    with pytest.raises(ValueError, match="log_gate_bwd has 60 of 60 values"):
        bidirectional_gla(q, k, v, gate, -gate)


@pytest.mark.parametrize("backend", ["cuda", None, 3, ["auto"]])
def test_unknown_backend_lists_the_known_ones(backend):
    *inputs, _ = draw()
    message = re.escape(f"backend is {backend!r}: choose one of auto, chunkw")
    with pytest.raises(ValueError, match=message):
        gla(*inputs, backend=backend)
    with pytest.raises(ValueError, match=message):
        bidirectional_gla(*inputs, inputs[3], backend=backend)


def with_gate(value):
    gate = torch.full((2, 5, 2, 3), -1.0)
    gate[1, 2, 0, 1] = value
    return {"log_gate": lambda x: gate.to(x)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "1 of 60 values above 0 or NaN; the largest is 0.5 at [1, 2, 0"),
        (torch.inf, "the largest is inf at [1, 2, 0, 1]"),
        (torch.nan, "the largest is nan at [1, 2, 0, 1]"),
        (0.5, "pass logsigmoid(x), not sigmoid(x)"),
    ],
)
def test_refuses_a_gate_that_would_amplify(value, message):
    for check in (None, True):
        with pytest.raises(ValueError, match=re.escape(message)):
            gla(**problem(**with_gate(value)), check=check)


@pytest.mark.parametrize("value", [0.0, -0.0, -torch.inf, -1e-45])
def test_accepts_every_gate_between_zero_and_one(value):
    assert gla(**problem(**with_gate(value))).isfinite().all()


def test_check_false_lets_a_positive_gate_through():
    arguments = problem(**with_gate(0.5))
    assert gla(**arguments, check=False).isfinite().all()


def test_check_none_does_not_read_values_off_the_cpu():
    """On the meta device reading a value is an error: none may be read."""
    arguments = {n: x.to("meta") for n, x in problem().items()}
    assert gla(**arguments).shape == (2, 5, 2, 4)
    with pytest.raises(RuntimeError):
        gla(**arguments, check=True)


def test_check_none_does_not_read_values_under_compile():
    compiled = torch.compile(gla, backend="eager", fullgraph=True)
    assert compiled(**problem(**with_gate(0.5))).isfinite().all()
