"""The kernels compile without a GPU, and registers hold what they need."""

import json
import os
import subprocess
import sys

import pytest

from hagvig_lib.measure import records

# In a process of its own: the interpreter of the other tests cannot be left.
COMPILE = """
import json
from hagvig_lib.measure.studies import kernel_compile as study
for run in study.RUNS:
    if (run["K"], run["dtype"]) == (32, "bfloat16"):
        print(json.dumps(run | study.run(**run)))
"""


@pytest.fixture(scope="module")
def compiled():
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    result = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_both_capabilities_and_all_kernels_are_compiled(compiled):
    found = {(row["kernel"], row["capability"]) for row in compiled}
    kernels = ("forward", "states", "gradients")
    assert found == {(k, c) for k in kernels for c in (80, 90)}


def test_registers_hold_what_the_kernels_need(compiled):
    assert all(row["spilled"] <= 64 for row in compiled), compiled


def test_products_go_to_tensor_cores(compiled):
    assert all(row["tensor_core"] > 0 for row in compiled), compiled


def test_recorded_spills_at_the_widths_of_vig():
    record = records.load("kernel_compile")
    if record.rows.empty:
        pytest.skip(record.note())
    vig = record.rows[record.rows.K <= 32]
    assert (vig.spilled <= 64).all(), vig[vig.spilled > 64]
