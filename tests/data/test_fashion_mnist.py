import lzma
import re

import pytest
import torch

from hagvig_lib.data import fashion_mnist
from hagvig_lib.data.fashion_mnist import CLASSES, load, normalise


@pytest.fixture(scope="module")
def splits():
    return load()


@pytest.mark.parametrize(
    ("split", "name", "rows"), [(0, "train", 10_000), (1, "test", 2_000)]
)
def test_shapes_types_and_balance(splits, split, name, rows):
    images, labels = splits[split]
    assert images.shape == (rows, 1, 28, 28), name
    assert images.dtype == torch.uint8
    assert labels.shape == (rows,)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, torch.arange(rows) % len(CLASSES))


def test_no_image_stands_twice(splits):
    rows = torch.cat([split.images for split in splits]).flatten(1)
    assert len({row.numpy().tobytes() for row in rows}) == len(rows)


def test_each_load_gives_writable_arrays_of_its_own(splits):
    train, _ = load()
    before = splits[0].images.clone()
    train.images.zero_()
    assert torch.equal(splits[0].images, before)


def test_labels_fit_the_pictures(splits):
    """A nearest-mean classifier: far above the 0.1 of shuffled labels."""
    train, test = (split.images.flatten(1).float() for split in splits)
    means = train.view(-1, 10, 784).mean(0)
    nearest = torch.cdist(test, means).argmin(1)
    # Nearest mean reaches 0.68 on the full set (10,000 test images); with
    # 2,000 one standard error is 0.01.
    assert (nearest == splits[1].labels).float().mean() > 0.6


def test_normalise_gives_mean_0_and_deviation_1(splits):
    pixels = normalise(splits[0].images).double()
    assert pixels.dtype == torch.float64
    # The constants have four decimals, so each is off by at most 5e-5.
    assert abs(pixels.mean()) < 5e-5 / fashion_mnist.STD + 1e-6
    assert abs(pixels.std() - 1) < 5e-5 / fashion_mnist.STD + 1e-6


def test_normalise_refuses_pixels_that_are_scaled_already(splits):
    with pytest.raises(TypeError, match=r"float32.*uint8"):
        normalise(splits[1].images / 255)


# Every region of the file: magic, stream header, block, index, footer.
@pytest.mark.parametrize("length", [0, 1, 6, 11, 12, 100_000, -30, -12, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    content = fashion_mnist.PATH.read_bytes()
    refuse(tmp_path, content[:length], "truncated or corrupted")


@pytest.mark.parametrize("place", [0, 5, 7, 9, 13, 30, 100_000, -25, -8, -1])
@pytest.mark.parametrize("bit", [0, 6])
def test_a_flipped_bit_is_refused(tmp_path, place, bit):
    content = bytearray(fashion_mnist.PATH.read_bytes())
    content[place] ^= 1 << bit
    refuse(tmp_path, bytes(content), "truncated or corrupted")


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (0, "train images"),
        (7_840_000, "train labels"),
        (7_850_000, "test images"),
        (-1, "test labels"),
    ],
)
def test_an_altered_array_is_named(tmp_path, place, name):
    """A sound file whose arrays are not the published ones."""
    content = bytearray(lzma.decompress(fashion_mnist.PATH.read_bytes()))
    content[place] ^= 1
    refuse(tmp_path, lzma.compress(content, preset=0), f"its {name} are not")


def test_a_file_of_another_size_is_refused(tmp_path):
    refuse(tmp_path, lzma.compress(b"short"), "has 5 bytes")


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "absent.xz"
    with pytest.raises(FileNotFoundError, match=r"absent\.xz.*data_scripts"):
        load(path)


def refuse(folder, content, reason):
    path = folder / "copy.xz"
    path.write_bytes(content)
    expected = rf"{re.escape(str(path))}.*{reason}.*force-reinstall.*rebuild"
    with pytest.raises(ValueError, match=expected):
        load(path)
