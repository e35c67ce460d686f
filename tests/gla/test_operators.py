"""The operators under compile, export and the FLOP counter; which backend."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from gla_definition import draw
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from hagvig_lib.gla import arguments, bidirectional_gla, gla, operators

FLOAT64 = {"rtol": 1e-12, "atol": 1e-12}


LAYOUTS = {
    "as made": lambda x: x,
    "heads first": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "one example": lambda x: x[:1].expand_as(x),
}


# The check itself looks at .grad of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize(
    ("backend", "dtype", "state", "layout"),
    [
        ("chunkwise", torch.float32, False, "as made"),
        ("chunkwise", torch.bfloat16, True, "heads first"),
        ("chunkwise", torch.float32, True, "one example"),
        ("triton", torch.float32, True, "heads first"),
    ],
)
def test_operators_pass_the_checks_of_torch(backend, dtype, state, layout):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    drawn = (x.to(device) for x in draw(tokens=4, dtype=dtype))
    q, k, v, gate, initial = map(LAYOUTS[layout], drawn)
    reason = arguments._obstacle_to_triton(q, interpreted=True)
    if backend == "triton" and reason:
        pytest.skip(reason)
    inputs = [x.requires_grad_() for x in (q, k, v, gate.float())]
    initial = initial.float().requires_grad_() if state else None
    last = torch.zeros(2, 2, 3, 4, device=device)
    grad = v.detach()
    both = (*inputs, inputs[3], 0.7, backend)
    one = (*inputs, initial, 0.7, True, backend)
    for operator, arguments_ in (
        (operators.gla, one),
        (operators.gla_backward, (grad, last, *one)),
        (operators.bidirectional_gla, both),
        (operators.bidirectional_gla_backward, (grad, *both)),
    ):
        # Its own backward has none: that is an error, tested below.
        backward = "backward" in operator._name
        detached = [
            x.detach() if backward and isinstance(x, torch.Tensor) else x
            for x in arguments_
        ]
        torch.library.opcheck(operator, detached)


def test_cuda_graphs_leave_the_operators_out():
    """Chunkwise waits for what it reads of the gates."""
    for name in ("gla", "bidirectional_gla"):
        for operator in (name, f"{name}_backward"):
            tags = getattr(torch.ops.hagvig, operator).default.tags
            assert torch.Tag.cudagraph_unsafe in tags, operator


def loss(q, k, v, gate, state):
    one, final = gla(q, k, v, gate, initial_state=state, return_state=True)
    both = bidirectional_gla(q, k, v, gate, 2 * gate)
    return (one * both).sum() + final.sum()


def test_compiled_code_looks_at_the_gates_when_it_runs():
    """Traced with weak gates, then run with gates that need another path."""
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for gate in ("vig", "strong", "reset"):
        inputs = [x.requires_grad_() for x in draw(tokens=70, gate=gate)]
        expected, result = loss(*inputs), compiled(*inputs)
        assert_close(result, expected, **FLOAT64)
        got = torch.autograd.grad(result, inputs)
        assert_close(got, torch.autograd.grad(expected, inputs), **FLOAT64)


def test_exported_program_takes_any_number_of_examples_and_tokens():
    class Scans(torch.nn.Module):
        def forward(self, q, k, v, gate, state):
            return loss(q, k, v, gate, state)

    batch = torch.export.Dim("batch", min=2)
    sizes = {0: batch, 1: torch.export.Dim("tokens", min=2)}
    program = torch.export.export(
        Scans(),
        draw(tokens=70),
        dynamic_shapes=(sizes, sizes, sizes, sizes, {0: batch}),
    )
    for gate, count in (("vig", 70), ("strong", 33)):
        inputs = draw(batch=3, tokens=count, gate=gate)
        assert_close(program.module()(*inputs), loss(*inputs), **FLOAT64)


def test_second_derivative_names_the_backend_that_has_one():
    inputs = [x.requires_grad_() for x in draw(tokens=4)[:4]]
    for run in (gla, lambda q, k, v, g: bidirectional_gla(q, k, v, g, g)):
        (first,) = torch.autograd.grad(
            run(*inputs).sum(), inputs[0], create_graph=True
        )
        with pytest.raises(NotImplementedError, match="backend='reference'"):
            first.sum().backward()


def test_flops_are_two_products_per_token_and_head_and_direction():
    q, k, v, gate, _ = (x.requires_grad_() for x in draw(tokens=40))
    product = 2 * q.numel() * v.shape[-1]  # batch * tokens * heads * K * V
    for directions, run in (
        (1, lambda: gla(q, k, v, gate)),
        (2, lambda: bidirectional_gla(q, k, v, gate, gate)),
    ):
        with FlopCounterMode(display=False) as forward:
            output = run()
        with FlopCounterMode(display=False) as backward:
            output.sum().backward()
        assert forward.get_total_flops() == directions * 2 * product
        assert backward.get_total_flops() == directions * 4 * product


# Which backend -------------------------------------------------------------


def on(device, dtype=torch.float32, channels=8):
    """What `choose_backend` looks at of q."""
    return SimpleNamespace(
        device=torch.device(device), dtype=dtype, shape=(1, 2, 1, channels)
    )


@pytest.fixture
def capability(monkeypatch):
    def is_(major, minor):
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda _: (major, minor)
        )
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "T4")

    return is_


def test_auto_takes_triton_where_it_runs(capability, monkeypatch):
    for number, backend in (((7, 5), "chunkwise"), ((8, 0), "triton")):
        capability(*number)
        assert arguments.choose_backend("auto", on("cuda")) == backend
    assert arguments.choose_backend("auto", on("cpu")) == "chunkwise"
    for refused in (on("cuda", torch.float64), on("cuda", channels=129)):
        assert arguments.choose_backend("auto", refused) == "chunkwise"
    monkeypatch.setattr(arguments, "find_spec", lambda name: None)
    assert arguments.choose_backend("auto", on("cuda")) == "chunkwise"


def test_auto_says_what_it_takes_once_and_why(capability, caplog):
    arguments._say_once.cache_clear()
    capability(7, 5)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            arguments.choose_backend("auto", on("cuda"))
    (message,) = caplog.messages
    assert message == (
        "backend is chunkwise (T4 has compute capability 7.5, below 8.0)"
    )


@pytest.mark.parametrize(
    ("q", "reason"),
    [
        (on("cpu"), "q is on cpu and TRITON_INTERPRET=1 is not set"),
        (on("cuda"), "T4 has compute capability 7.5, below 8.0"),
        (on("meta"), "q is on meta, not on a CUDA device"),
        (on("cuda", torch.float64), "q has dtype torch.float64"),
        (on("cuda", channels=129), r"129 channels \(K\), more than 128"),
    ],
)
def test_named_triton_says_why_it_cannot_run(
    q, reason, capability, monkeypatch
):
    capability(7, 5)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=reason) as error:
        arguments.choose_backend("triton", q)
    assert "'chunkwise' or 'reference'" in str(error.value)


def test_interpreter_refuses_what_it_multiplies_wrongly(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    half = on("cpu", torch.bfloat16)
    with pytest.raises(ValueError, match="which its interpreter gets wrong"):
        arguments.choose_backend("triton", half)
    assert arguments.choose_backend("triton", on("cpu")) == "triton"


def test_operators_have_no_reference():
    with pytest.raises(ValueError, match="'reference': the operators have"):
        arguments.choose_backend("reference", on("cpu"))


def test_float64_on_triton_is_an_error_of_the_public_function():
    *inputs, _ = draw()
    with pytest.raises(ValueError, match="'chunkwise' or 'reference'"):
        gla(*inputs, backend="triton")


def test_importing_the_package_imports_no_kernel():
    program = "import sys, hagvig_lib.gla; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", program])
    assert b"hagvig_lib.gla.operators" in modules
    assert b"hagvig_lib.gla.triton" not in modules


# Another implementation ------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "chunkwise"])
@pytest.mark.parametrize("gate", ["vig", "strong", "mixed", "reset"])
def test_agrees_with_flash_linear_attention(backend, gate):
    """Its plain recurrence, in float32; from both sides its sum with flips."""
    naive = pytest.importorskip("fla.ops.gla.naive", exc_type=ImportError)
    *inputs, state = draw(tokens=40, gate=gate, dtype=torch.float32)
    options = {"initial_state": state, "return_state": True}
    got = gla(*inputs, **options, backend=backend)
    expected = naive.naive_recurrent_gla(*inputs, state, True)
    # 40 tokens, 4 roundings each: see test_gla.py.
    tolerance = {"rtol": 2e-5, "atol": 2e-5}
    assert_close(got, expected, **tolerance)
    q, k, v, gate_fwd = inputs
    gate_bwd = gate_fwd.roll(1, 1)
    mirrored = [x.flip(1) for x in (q, k, v, gate_bwd)]
    forward, _ = naive.naive_recurrent_gla(*inputs)
    backward, _ = naive.naive_recurrent_gla(*mirrored)
    both = bidirectional_gla(*inputs, gate_bwd, backend=backend)
    assert_close(both, forward + backward.flip(1), **tolerance)
