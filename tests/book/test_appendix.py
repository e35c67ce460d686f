"""The appendix's pages say what files and records hold."""

from types import SimpleNamespace

import appendix
import pandas as pd
import pytest
import toy
import yaml
from paths import BOOK

from hagvig_lib.measure import experiments, records

STUDY = SimpleNamespace(
    __doc__="""Does a toy help? (chapter 1)

    What would count, said beforehand: a point.
    """,
    RUNS=[{"arm": "<a>", "compiled": True, "seed": 0}],
)
ROWS = [
    {"arm": "<a>", "seed": 0, "test": 0.5, "curve": [1, 2], "gate": None},
    {"arm": "<a>", "seed": 1, "test": 0.7, "curve": [1, 2], "gate": None},
    {"arm": "b", "seed": 0, "test": 1 / 3, "curve": [1, 2], "gate": 0.5},
]
LEGEND = {
    "toy": {
        "arm": "which toy",
        "compiled": "a column that the record is too old for",
        "test": "how well",
        "gate": "mean gate",
    }
}
CLAIM = {
    "sentence": 1,
    "words": "a word",
    "claim": "It is {score}.",
    "status": "partly",
    "measured": "It is {score} here (G1).",
    "values": {"score": "1,000"},
    "check": "tests/test_toy.py::test_both",
    "chapters": ["one"],
    "record": "toy",
}
META = {
    "name": "toy",
    "cpu_seconds": 90.0,
    "date": "2026-11-22",
    "device": "a processor",
    "torch": "2.15",
    "load": 0.3,
    "commit": "abc",
    "command": "measure toy",
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the page of a name in a toy book, and read it."""
    known = {
        "toy": records.Record(
            "toy",
            pd.DataFrame(ROWS),
            META,
            stale=True,
        ),
        "other": records.Record("other", pd.DataFrame(), {}, stale=False),
    }
    monkeypatch.setattr(records, "load", known.get)
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    monkeypatch.setattr(experiments, "names", lambda: list(known))
    monkeypatch.setattr(appendix, "_study", lambda name: STUDY)
    book = toy.book(tmp_path, one=toy.chapter())
    toy.register(book, toy.ENTRY)
    paper = {"paper": "P", "link": "l", "sentences": 1, "rows": [CLAIM]}
    (book.source / "claims.yml").write_text(yaml.safe_dump([paper]))
    (book.source / "measurements.yml").write_text(
        yaml.safe_dump(LEGEND, sort_keys=False)
    )

    def result(name):
        staged = book.staged / f"appendix/{name}.md"
        staged.parent.mkdir(parents=True)
        staged.write_text("# A page\n")
        appendix.write(book)
        return staged.read_text()

    return result


def test_register_has_an_anchor_and_a_link_for_each_entry(write):
    text = write("discrepancies")
    assert "| {ref}`G1 <G1>` | Nothing is cleared | Routing |" in text
    assert "\n## Routing\n\n(G1)=\n### G1 · Nothing is cleared\n" in text
    assert f"[b.py, 4–16]({toy.ENTRY['where'][0]})" in text
    assert "Says nothing about it." in text
    assert "**2.0**, ratio (2026-11-22)" in text


def test_claims_fill_in_their_values_and_say_where_they_come_from(write):
    text = write("claims")
    assert "### Sentence 1: partly" in text
    assert "It is 1,000. (“a word”)" in text
    assert "It is 1,000 here ({ref}`G1 <G1>`)." in text
    assert "[1 · What is a toy?](../one.ipynb)" in text
    assert ": **Stale:**" in text


def test_measurements_say_what_is_stale_and_what_was_not_measured(write):
    text = write("measurements")
    assert "## toy\n\n**Does a toy help? (chapter 1)**\n\nWhat would" in text
    assert "a point.\n\n**Stale:**" in text
    assert "3 runs, 2 CPU minutes, finished on 2026-11-22" in text
    assert "a point.\n\n**Not yet measured:**" in text


def test_measurements_sum_up_the_runs_of_a_configuration(write):
    text = write("measurements")
    assert "`test`\n: how well\n" in text
    first = "<td>&lt;a&gt;</td><td>2</td><td>0.6 ± 0.14</td><td>–</td>"
    assert first in text
    assert "<td>b</td><td>1</td><td>0.333</td><td>0.5</td>" in text
    # A blank line would end the HTML in Markdown's eyes.
    table = text[text.index("<table") : text.index("</table>")]
    assert "\n\n" not in table
    assert "{download}`toy.json <" in text


def test_columns_of_every_study_are_explained():
    legends = yaml.safe_load((BOOK.source / appendix.COLUMNS).read_text())
    assert sorted(legends) == experiments.names()
    for name, legend in legends.items():
        configuration = set(appendix._study(name).RUNS[0]) - {"seed"}
        assert list(legend)[: len(configuration)] == [
            key for key in legend if key in configuration
        ]
        assert configuration <= legend.keys()
        results = legend.keys() - configuration
        assert results <= set(records.load(name).rows)


def test_book_without_these_pages_gets_none(tmp_path):
    book = toy.book(tmp_path)
    book.staged.mkdir(parents=True)
    appendix.write(book)
    assert not list(book.staged.iterdir())
