"""The kernels compile without a GPU, and registers hold what they need."""

import json
import os
import subprocess
import sys

import pytest

from hagvig_lib.gla.triton.configurations import TABLE, configuration
from hagvig_lib.measure import records
from hagvig_lib.measure.studies import kernel_compile

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


def test_the_study_compiles_every_row_of_the_table():
    found = {}
    for run in kernel_compile.RUNS:
        sweep = "forward" if run["kernel"] == "forward" else "backward"
        size = 4 if run["dtype"] == "float32" else 2
        chosen = configuration(sweep, run["K"], run["V"], size)
        found.setdefault((sweep, run["K"], size), set()).add(chosen)
    assert found.keys() == TABLE.keys()
    assert all(TABLE[key] in found[key] for key in TABLE)


def test_recorded_spills():
    record = records.load("kernel_compile")
    if record.rows.empty:
        pytest.skip(record.note())
    assert len(record.rows) == len(kernel_compile.RUNS)
    most = record.rows[record.rows.spilled > 64]
    assert most.empty, most
