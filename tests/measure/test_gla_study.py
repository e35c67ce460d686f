"""The study of gated linear attention, on shapes of a moment."""

from functools import partial

import pytest
import torch

from hagvig_lib.gla import bidirectional_gla
from hagvig_lib.measure.studies import gla as study

BOUND = 3e-6  # of float32 gradients, see tests/gla/test_chunkwise.py


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(study.shutil, "which", lambda _: None)


@pytest.mark.parametrize("training", [False, True])
def test_measures_every_form_of_the_device(training, no_compiler, monkeypatch):
    monkeypatch.setattr(study, "_copy_rate", lambda _: 1e9)
    result = study.run("cpu", "2x20", training, rounds=1)
    for form in ("ours", "two passes", "attention", "reference"):
        assert result[f"{form} median"] > 0
        # The output at least, of which attention keeps its own.
        assert result[f"{form} peak"] >= 4 * 2 * 20 * 3 * 64
    assert 0 < result["error"] < BOUND
    # q, k, gates and v read, the output written: 4 * 32 + 2 * 64 numbers.
    numbers = 2 * 20 * 3 * (4 * 32 + 2 * 64)
    if training:
        numbers += 2 * 20 * 3 * (2 * (4 * 32 + 64) + 64)
    moved = 1e9 * result["share"] * result["ours median"]
    assert moved == pytest.approx(4 * numbers)


@pytest.mark.parametrize("tokens", [1, 13, 40])
def test_the_form_to_be_compiled_is_right_before_it_is_compiled(tokens):
    inputs, grad = study._inputs("cpu", torch.float32, (2, tokens, 3))
    assert study._error(study._factorised, inputs, grad, True) < BOUND


def test_a_wrong_form_is_not_timed(no_compiler, monkeypatch):
    def wrong(*inputs, scale, backend="auto"):
        factor = 1 if backend == "reference" else 1 + 1e-5
        return factor * bidirectional_gla(
            *inputs, scale=scale, backend=backend
        )

    monkeypatch.setattr(study, "bidirectional_gla", wrong)
    monkeypatch.setattr(study, "interleaved", partial(pytest.fail, "timed"))
    with pytest.raises(RuntimeError, match="relative errors"):
        study.run("cpu", "1x20", False)


def test_long_inputs_leave_out_what_takes_too_long():
    assert "reference" not in study._forms("cpu", 4096)
    assert "compiled" not in study._forms("cpu", 1024)
