"""The counts on the claims page about ViG, computed again."""

import pytest
from check_register import entries
from paths import BOOK

from hagvig_lib.measure import records
from hagvig_lib.measure.studies import vig_efficiency as study


@pytest.fixture
def stated():
    """Sentence -> the values that its row states."""
    rows = entries(BOOK, "claims.yml")[1]["rows"]
    return {row["sentence"]: row.get("values") for row in rows}


def test_the_scan_computes_less_from_a_size_on(stated):
    first = stated[1]["pixels"]
    less = {}
    for side in range(first - 48, first + 160, 16):
        found = study.counts("tiny", side)
        less[side] = found["vig multiply_adds"] < found["deit multiply_adds"]
    assert [side for side in less if less[side]] == list(
        range(first, first + 160, 16)
    )


@pytest.fixture
def timed():
    """(pair, side) -> times and memory of a forward pass on the CPU."""
    rows = records.load("vig_efficiency").rows
    rows = rows.query("device == 'cpu' and batch == 1 and not training")
    return rows.set_index(["pair", "side"]).T


def faster(run, than):
    return f"{run[f'{than} median'] / run['vig median']:.1f}"


def test_the_smallest_is_faster_on_large_images_with_room_to_spare(timed):
    run = timed["tiny", 1024]
    assert run["vig p80"] < run["sdpa p20"]


def test_the_published_fifth_leaves_layers_out(stated, timed):
    found = study.counts("small", 224)
    deit = found["deit multiply_adds"]
    share = found["vig parameters"] / found["deit parameters"]
    without = found["vig multiply_adds"] - found["down"]
    run = timed["small", 224]
    assert stated[7] == {
        "written": faster(run, than="written out"),
        "fused": faster(run, than="sdpa"),
        "parameters": f"{share:.1%}",
        "flops": f"{found['vig multiply_adds'] / deit:.1%}",
        "without_last": f"{without / deit:.1%}",
        "without_scan": f"{(without - found['recurrence']) / deit:.1%}",
    }


def test_the_published_factor_leaves_layers_out(stated, timed):
    found = study.counts("tiny", 1024)
    deit = found["deit multiply_adds"]
    without = found["vig multiply_adds"] - found["down"]
    run = timed["tiny", 1024]
    assert stated[8] == {
        "written": faster(run, than="written out"),
        "fused": faster(run, than="sdpa"),
        "saved": f"{1 - run['vig peak'] / run['written out peak']:.0%}",
        "more": f"{run['vig peak'] / run['sdpa peak']:.1f}",
        "factor": f"{deit / found['vig multiply_adds']:.1f}",
        "without_last": f"{deit / without:.1f}",
        "without_scan": f"{deit / (without - found['recurrence']):.1f}",
    }
