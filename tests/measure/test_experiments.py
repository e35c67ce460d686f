"""Studies go on where they were stopped, and repeat nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import toy_study

from hagvig_lib.measure import experiments, records, studies
from hagvig_lib.measure.experiments import run_study
from hagvig_lib.measure.source import PACKAGE

HERE = Path(__file__).parent
DONE = {"a0": "x", "a1": "x", "b0": "x", "b1": "x"}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder in which the toy study counts its runs."""
    monkeypatch.setenv("TOY_FOLDER", str(tmp_path))
    return tmp_path


@pytest.fixture
def in_process(monkeypatch):
    """Runs are done here and now: no worker has to import torch."""

    def runs(module, todo, workers):
        for run in todo:
            yield experiments._run(module, run)

    monkeypatch.setattr(experiments, "_runs", runs)


def study(folder):
    return run_study(toy_study, work=folder / "work", folder=folder)


def counts(folder):
    return {path.name: path.read_text() for path in folder.glob("[ab][01]")}


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("nothing happened for five minutes")


def gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().split()[2] == "Z"


def test_killed_study_leaves_no_worker_and_repeats_no_finished_run(
    toy, in_process
):
    (toy / "hang").touch()
    program = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "import toy_study\n"
        "from pathlib import Path\n"
        "from hagvig_lib.measure.experiments import run_study\n"
        f"folder = Path({str(toy)!r})\n"
        "run_study(toy_study, work=folder / 'work', folder=folder)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.DEVNULL
    )
    store = toy / "work/toy_study.jsonl"
    wait_for(lambda: len(list(toy.glob("hangs-*"))) == 2)
    wait_for(lambda: store.read_text().count("\n") == 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for hanging in toy.glob("hangs-*"):
        wait_for(lambda pid=int(hanging.name[6:]): gone(pid))
    (toy / "hang").unlink()
    study(toy)
    assert counts(toy) == DONE | {"b0": "xx", "b1": "xx"}
    rows = records.load("toy_study", toy).rows
    assert rows[["arm", "seed"]].to_dict("records") == toy_study.RUNS
    assert rows["score"].tolist() == [0.5, 1.5, 0.5, 1.5]


@pytest.mark.parametrize("cut", [1, 30])
def test_half_written_line_is_cut_off_and_its_run_repeated(
    toy, in_process, cut, capsys
):
    study(toy)
    store = toy / "work/toy_study.jsonl"
    store.write_bytes(store.read_bytes()[:-cut])
    study(toy)
    assert counts(toy) == DONE | {"b1": "xx"}
    assert "toy_study.jsonl: last line half written" in capsys.readouterr().out
    assert len([*map(json.loads, store.read_text().splitlines())]) == 4


def test_finished_study_runs_nothing_until_its_source_changes(
    toy, in_process, monkeypatch
):
    study(toy)
    study(toy)
    assert counts(toy) == DONE
    monkeypatch.setattr(toy_study, "SOURCES", ("measure/cost.py",))
    study(toy)
    assert set(counts(toy).values()) == {"xx"}


def test_source_that_changes_during_a_study_is_not_taken_for_measured(
    toy, in_process, monkeypatch
):
    hashes = iter(["before"])
    monkeypatch.setattr(
        experiments, "source_hash", lambda sources: next(hashes)
    )
    study(toy)
    assert records.load("toy_study", toy).stale


def test_new_configuration_is_run_alone_and_a_dropped_one_is_not_recorded(
    toy, in_process, monkeypatch
):
    study(toy)
    new = [*toy_study.RUNS[1:], {"arm": "a", "seed": 2}]
    monkeypatch.setattr(toy_study, "RUNS", new)
    study(toy)
    assert counts(toy) == DONE
    assert (toy / "a2").read_text() == "x"
    rows = records.load("toy_study", toy).rows
    assert rows[["arm", "seed"]].to_dict("records") == new


def test_failed_run_is_named_and_finished_ones_are_kept(toy, monkeypatch):
    (toy / "fail").touch()
    fails, *others = sorted(toy_study.RUNS, key=lambda run: run["seed"])[::-1]
    monkeypatch.setattr(toy_study, "RUNS", [fails, *others])
    with pytest.raises(
        RuntimeError, match=r"toy_study: \{'arm': 'b'"
    ) as error:
        study(toy)
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert not (toy / "toy_study.json").exists()
    kept = (toy / "work/toy_study.jsonl").read_text().splitlines()
    kept = [json.loads(line)["configuration"] for line in kept]
    assert {"arm": "a", "seed": 1} in kept  # it ran while the other failed
    assert {run["arm"] for run in kept} == {"a"}


def test_result_that_is_not_finite_is_refused_with_its_run(toy, monkeypatch):
    (toy / "nan").touch()
    only = {"arm": "a", "seed": 0}
    monkeypatch.setattr(toy_study, "RUNS", [only])
    with pytest.raises(RuntimeError, match=re.escape(str(only))) as error:
        study(toy)
    assert "not JSON compliant" in str(error.value.__cause__)
    assert not (toy / "work/toy_study.jsonl").read_text()


def test_two_runs_of_one_configuration_are_refused(toy, monkeypatch):
    monkeypatch.setattr(toy_study, "RUNS", toy_study.RUNS * 2)
    with pytest.raises(ValueError, match="two runs of one configuration"):
        study(toy)


@pytest.mark.parametrize(("load", "runs"), [(0.51, False), (0.5, True)])
def test_times_are_taken_on_a_quiet_machine_only(
    toy, in_process, monkeypatch, load, runs
):
    monkeypatch.setattr(toy_study, "TIMING", True, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 9, 9))
    if runs:
        assert study(toy).exists()
    else:
        with pytest.raises(RuntimeError, match=r"load average is 0\.5"):
            study(toy)


def test_unknown_study_is_refused_with_the_known_ones(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments", "braedth"])
    with pytest.raises(SystemExit, match=r"no study \['braedth'\].*'breadth'"):
        experiments.main()


@pytest.mark.parametrize("name", experiments.names())
def test_study_keeps_the_contract(name):
    module = import_module(f"{studies.__name__}.{name}")
    json.dumps(module.RUNS, allow_nan=False)
    assert callable(module.run)
    files = {p for s in module.SOURCES for p in PACKAGE.glob(s)}
    assert PACKAGE / f"measure/studies/{name}.py" in files
    drawn = name != "kernel_compile"  # a compiler draws nothing
    if drawn and not hasattr(module, "TIMING"):
        assert len({run["seed"] for run in module.RUNS}) >= 5
