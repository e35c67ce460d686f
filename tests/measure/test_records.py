"""A record says where its numbers come from, and when they are stale."""

import json
from datetime import date

import pytest

from hagvig_lib.measure import records, source
from hagvig_lib.measure.source import source_hash

SOURCES = ("measure/timing.py",)
ROWS = [
    {"arm": "a", "seed": 0, "score": 0.5},
    {"arm": "a", "seed": 1, "score": 1 / 3},
]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two files."""
    root = tmp_path / "package"
    root.mkdir()
    (root / "gate.py").write_text('"""A gate."""\n\nx = 1  # why\n')
    (root / "data.xz").write_bytes(b"\xff\0")
    monkeypatch.setattr(source, "PACKAGE", root)
    return root


def write(folder, name="toy", rows=ROWS, **measured):
    measured = {"load": 0.4, "cpu_seconds": 200} | measured
    return records.write(name, rows, SOURCES, folder, **measured)


def test_record_gives_back_rows_and_circumstances(tmp_path):
    write(tmp_path)
    record = records.load("toy", tmp_path)
    assert record.rows.to_dict("records") == ROWS
    assert set(record.meta) | {"rows"} == set(records.SCHEMA.split())
    assert not record.stale
    note = record.note()
    assert "2 runs, 3 CPU minutes" in note
    assert record.meta["device"] in note
    assert date.fromisoformat(record.meta["date"])
    assert "`python -m hagvig_lib.measure.experiments toy`" in note


def test_record_that_was_not_measured_is_empty_and_says_so(tmp_path):
    record = records.load("toy", tmp_path)
    assert record.rows.empty
    assert "Not yet measured" in record.note()
    assert "experiments toy`" in record.note()


def test_changed_source_makes_a_record_stale(package, tmp_path):
    records.write("toy", ROWS, ["gate.py"], tmp_path, load=0, cpu_seconds=1)
    assert not records.load("toy", tmp_path).stale
    (package / "gate.py").write_text("x = 2\n")
    record = records.load("toy", tmp_path)
    assert record.stale
    assert record.note().startswith("**Stale:**")


def test_source_that_was_renamed_makes_a_record_stale(package, tmp_path):
    records.write("toy", ROWS, ["gate.py"], tmp_path, load=0, cpu_seconds=1)
    (package / "gate.py").rename(package / "gates.py")
    assert records.load("toy", tmp_path).stale


def test_source_that_changed_while_a_study_ran_makes_it_stale(
    package, tmp_path
):
    before = source_hash(["gate.py"])
    (package / "gate.py").write_text("x = 2\n")
    measured = {"load": 0, "cpu_seconds": 1, "source_hash": before}
    records.write("toy", ROWS, ["gate.py"], tmp_path, **measured)
    assert records.load("toy", tmp_path).stale


@pytest.mark.parametrize(
    ("path", "content", "same"),
    [
        ("gate.py", b'"""Another\n\nsentence."""\nx = 1  # why\n', True),
        ("gate.py", b'"""A gate."""\n\n# Because.\nx = 1  # why\n', True),
        ("gate.py", b'"""A gate."""\n\nx = 1\n# why\n    # not\n', False),
        ("gate.py", b'"""A gate."""\n\nx = 1.0  # why\n', False),
        ("data.xz", b"\xff\1", False),
        ("new.py", b"", False),
    ],
    ids=["docstring", "comment", "same line", "value", "data", "new file"],
)
def test_only_code_and_data_count_as_source(package, path, content, same):
    before = source_hash(["*"])
    (package / path).write_bytes(content)
    assert (source_hash(["*"]) == before) == same


def test_pattern_that_matches_nothing_is_named(package):
    with pytest.raises(ValueError, match=r"matches 'gates\.py'"):
        source_hash(["gate.py", "gates.py"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-9], r"toy\.json has no .*valid JSON"),
        (
            lambda text: json.dumps({"rows": [], "name": "toy"}),
            r"toy\.json has no \['command', 'commit',.*measure again:.* toy",
        ),
    ],
    ids=["cut", "fields"],
)
def test_damaged_record_is_refused(tmp_path, damage, message):
    path = write(tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=message):
        records.load("toy", tmp_path)


def test_number_that_is_not_finite_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path, rows=[{"score": float("nan")}])
    assert not list(tmp_path.iterdir())


def test_every_record_of_the_package_is_whole():
    for path in records.FOLDER.glob("*.json"):
        record = records.load(path.stem)
        assert record.name == record.meta["name"] == path.stem
        assert len(record.rows) > 0
