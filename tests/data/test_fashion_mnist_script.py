"""data_scripts/fashion_mnist.py: the same arrays again, or a clear error."""

import gzip
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hagvig_lib.data import fashion_mnist as packaged

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "fashion_mnist.py"
FILES = [
    f"{stem}-{kind}-ubyte.gz"
    for stem in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("rebuild", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny(script, tmp_path, monkeypatch):
    """A source folder with four idx files: 20 images of 2 x 2 pixels."""
    source = tmp_path / "source"
    source.mkdir()
    for name in FILES:
        if "images" in name:
            header = [0, 0, 8, 3, *(0, 0, 0, 20), *(0, 0, 0, 2) * 2]
            body = range(80)
        else:
            header = [0, 0, 8, 1, *(0, 0, 0, 20)]
            body = [i // 2 for i in range(20)]
        content = bytes([*header, *body])
        (source / name).write_bytes(gzip.compress(content))
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(script.SHA256, name, digest)
    return source


def test_help_names_the_options_and_the_package():
    out = run("--help").stdout
    assert "--source" in out
    assert "--out" in out
    assert "apt-get install dataset-fashion-mnist" in out


def test_the_debian_package_gives_the_published_arrays(script, tmp_path):
    if not script.DEBIAN.is_dir():
        pytest.skip("needs apt-get install dataset-fashion-mnist")
    out = tmp_path / "rebuilt.xz"
    result = run("--out", out)
    assert result.stdout.startswith(script.STATEMENT)
    assert "MIT license" in script.STATEMENT
    assert list(tmp_path.iterdir()) == [out]
    for rebuilt, published in zip(
        packaged.load(out), packaged.load(), strict=True
    ):
        assert rebuilt.images.equal(published.images)
        assert rebuilt.labels.equal(published.labels)


def test_rows_take_the_classes_in_turn_and_keep_their_images(script, tiny):
    labels = script.read_idx(tiny, "train-labels-idx1-ubyte.gz")
    images = script.read_idx(tiny, "train-images-idx3-ubyte.gz")
    rows = script.chosen(labels, "train", 2)
    assert images.shape == (20, 2, 2)
    assert images[7].tolist() == [[28, 29], [30, 31]]
    assert labels[rows].tolist() == [*range(10), *range(10)]
    assert sorted(rows) == list(range(20))
    assert rows.tolist() != script.chosen(labels, "test", 2).tolist()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: os.truncate(path, 30), "is damaged"),
        (lambda path: path.write_bytes(b"<html>"), "is damaged"),
        (lambda path: path.write_bytes(gzip.compress(b"no")), "other data"),
    ],
    ids=["missing", "truncated", "not gzip", "other"],
)
def test_a_bad_source_file_is_named_with_the_remedy(
    script, tiny, tmp_path, monkeypatch, name, damage, reason
):
    damage(tiny / name)
    # Of the tiny tree, one image a class: nothing to select but the error.
    out = tmp_path / "out.xz"
    out.write_bytes(b"as before")
    monkeypatch.setattr(script, "chosen", lambda labels, *_: [0])
    with pytest.raises(SystemExit) as stop:
        script.main(["--source", str(tiny), "--out", str(out)])
    message = str(stop.value)
    assert f"{tiny / name} " in message
    assert reason in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert out.read_bytes() == b"as before"


def test_wrong_arrays_leave_the_old_file_and_no_half_file(script, tmp_path):
    out = tmp_path / "out.xz"
    out.write_bytes(b"as before")
    with pytest.raises(ValueError, match="has 5 bytes"):
        script.write(b"wrong", out)
    assert out.read_bytes() == b"as before"
    assert list(tmp_path.iterdir()) == [out]


def run(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
