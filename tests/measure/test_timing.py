"""Interleaved timing: who is called when, and what is reported."""

import time

import pytest

from hagvig_lib.measure import interleaved


@pytest.fixture
def calls() -> list[str]:
    return []


def test_warms_each_up_once_then_alternates_the_order(calls):
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    table = interleaved(functions, rounds=3)
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc"
    assert list(table.index) == ["a", "b", "c"]
    assert list(table.columns) == ["median", "p20", "p80", "n"]
    assert (table["n"] == 3).all()


def test_reports_quantiles_of_the_recorded_calls(monkeypatch):
    ticks = iter([0.0, 5.0, 10.0, 11.0, 20.0, 23.0])
    monkeypatch.setattr(
        "hagvig_lib.measure.timing.perf_counter", lambda: next(ticks)
    )
    row = interleaved({"f": lambda: None}, rounds=3).loc["f"]
    # Durations 5, 1 and 3: linear quantiles between the sorted values.
    assert row["median"] == 3
    assert row["p20"] == pytest.approx(1.8)
    assert row["p80"] == pytest.approx(4.2)


def test_the_warm_up_call_is_not_recorded(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(
        "hagvig_lib.measure.timing.perf_counter", lambda: clock[0]
    )
    durations = iter([100.0, 1.0, 1.0])

    def work():
        clock[0] += next(durations)

    row = interleaved({"work": work}, rounds=2).loc["work"]
    assert (row["median"], row["n"]) == (1.0, 2)


def test_measures_seconds():
    row = interleaved({"sleep": lambda: time.sleep(0.002)}, rounds=2).loc[
        "sleep"
    ]
    assert row["p20"] >= 0.002


@pytest.mark.parametrize(
    ("functions", "rounds", "message"),
    [
        ({}, 3, "functions is empty"),
        ({"f": lambda: None}, 0, "rounds is 0"),
    ],
)
def test_refuses(functions, rounds, message):
    with pytest.raises(ValueError, match=message):
        interleaved(functions, rounds)
