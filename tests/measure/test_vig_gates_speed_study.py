"""The study of pruned speed times what the record of `vig_gates` closed."""

import pandas as pd
import pytest

from hagvig_lib.measure import records
from hagvig_lib.measure.studies import vig_gates as trained
from hagvig_lib.measure.studies import vig_gates_speed as study


@pytest.fixture
def stated(monkeypatch):
    """Makes the record of `vig_gates`: one row, with this share of work."""

    def make(multiply_adds):
        row = {"arm": "routed", "seed": 3, "multiply_adds": multiply_adds}
        # Behind the scans, the mixer and the MLP of each of three blocks.
        row["shut"] = [64, 0, 0, 8] + 2 * [0, 64, 0, 0]
        record = records.Record("vig_gates", pd.DataFrame([row]), {}, False)
        monkeypatch.setattr(study.records, "load", lambda name: record)

    return make


def closed_by_hand():
    net = trained.network("routed")
    gates = trained.named_gates(net)
    for name in ("0.attn.scans.fwd", "1.attn.scans.bwd", "2.attn.scans.bwd"):
        gates[f"blocks.{name}"].logits.data.fill_(-9)
    gates["blocks.0.ls2"].logits.data[:8] = -9
    return trained._pruned(net)["multiply_adds"]


def test_it_prunes_as_many_channels_as_the_record_says(stated):
    share = closed_by_hand()
    assert 0.5 < share < 1
    stated(share)
    found = study.run("routed", 3)
    assert found["multiply_adds"] == pytest.approx(share)
    assert found["speed_up"] > 0


def test_other_work_than_the_record_states_is_not_timed(stated):
    stated(0.9 * closed_by_hand())
    with pytest.raises(RuntimeError, match=r"routed, seed 3: .* the record"):
        study.run("routed", 3)


def test_without_the_record_there_is_nothing_to_time(monkeypatch):
    empty = records.Record("vig_gates", pd.DataFrame(), {}, False)
    monkeypatch.setattr(study.records, "load", lambda name: empty)
    with pytest.raises(ValueError, match="measure it first"):
        study.run("routed", 3)
