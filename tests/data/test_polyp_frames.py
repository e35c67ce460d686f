import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from hagvig_lib.data.polyp_frames import PolypFrames, PolypSampler
from hagvig_lib.data.sizes import SizeScale
from hagvig_lib.data.streams import (
    MEAN,
    STD,
    augmentation,
    full_range,
    grown_crop,
    normalised,
    only_box,
)
from hagvig_lib.data.synthetic_colonoscopy import write

STREAMS = ("rgb", "location", "depth")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    return write(folder, 4, frames=4, seed=1), folder


@pytest.fixture
def damaged(tmp_path):
    return write(tmp_path, 2, frames=2), tmp_path


class TestSizeScale:
    @pytest.mark.parametrize(
        ("mm", "scaled"), [(0.5, -1), (10.25, 0), (20, 1), (39.5, 3)]
    )
    def test_maps_low_and_high_to_one(self, mm, scaled):
        assert SizeScale().scaled(torch.tensor(mm)) == scaled
        assert SizeScale().scaled(np.array(mm)) == scaled

    def test_mm_is_the_inverse_within_its_limits(self):
        mm = torch.linspace(0.5, 22, 50, dtype=torch.float64)
        scale = SizeScale()
        torch.testing.assert_close(scale.mm(scale.scaled(mm)), mm)
        beyond = scale.mm(torch.tensor([-9.0, 9.0]))
        assert beyond.tolist() == [0.5, 22.0]
        assert scale.mm(torch.tensor(9.0), (0, 500)) > 22

    def test_another_range(self):
        scale = SizeScale(low=2, high=6)
        assert scale.scaled(np.array([2, 4, 6])).tolist() == [-1, 0, 1]


def test_items_have_the_streams_shapes_and_the_size_in_mm(data):
    table, folder = data
    for streams in (STREAMS, ("depth", "rgb"), ("location",)):
        frames = PolypFrames(table, folder, streams, size=48)
        inputs, size_mm = frames[3]
        assert tuple(inputs) == streams
        for name, tensor in inputs.items():
            channels = 1 if name == "depth" else 3
            assert tensor.shape == (channels, 48, 48)
            assert tensor.dtype == torch.float32
            assert type(tensor) is torch.Tensor
            assert tensor.isfinite().all()
        assert size_mm.dtype == torch.float32
        assert size_mm == np.float32(table.size_mm.iloc[3])


def test_batches_collate_in_table_order(data):
    table, folder = data
    frames = PolypFrames(table, folder, STREAMS, size=32)
    inputs, size_mm = next(iter(torch.utils.data.DataLoader(frames, 5)))
    assert inputs["location"].shape == (5, 3, 32, 32)
    expected = torch.tensor(table.size_mm.iloc[:5].to_numpy()).float()
    torch.testing.assert_close(size_mm, expected)


def test_frames_without_a_polyp_are_no_items(data):
    table, folder = data
    some = table.copy()
    some.loc[[0, 2], ["polyp", "xmin", "ymin", "xmax", "ymax"]] = None
    some.loc[[0, 2], "size_mm"] = np.nan
    frames = PolypFrames(some, folder)
    assert len(frames) == len(table) - 2
    assert frames.table.index[0] == 1
    with pytest.raises(ValueError, match=r"none of the table's 1 rows"):
        PolypFrames(some.iloc[:1], folder)


def test_rgb_hides_the_apparent_size_and_location_shows_it(data):
    table, folder = data
    frames = PolypFrames(table, folder, STREAMS)
    apparent, share, crop_share = [], [], []
    for i, row in enumerate(table.itertuples()):
        box = (row.xmax - row.xmin) * (row.ymax - row.ymin)
        apparent.append(box / 64**2)
        inputs, _ = frames[i]
        share.append((inputs["location"] != 0).any(0).float().mean().item())
        crop_share.append(inputs["rgb"].shape[-1])
    np.testing.assert_allclose(share, apparent, atol=2 / 64**2)
    assert len(set(crop_share)) == 1


def test_the_crop_is_the_box_grown_by_half_on_each_side():
    picture = torch.arange(20 * 30.0).reshape(1, 20, 30)
    crop = grown_crop(picture, [10, 6, 14, 12], square=False)
    torch.testing.assert_close(crop, picture[:, 3:15, 8:16])
    edge = grown_crop(picture, [0, 16, 8, 20], square=False)
    torch.testing.assert_close(edge, picture[:, 14:20, 0:12])
    square = grown_crop(picture, [10, 6, 14, 12], square=True)
    torch.testing.assert_close(square, picture[:, 3:15, 6:18])
    beyond = grown_crop(picture, [0, 16, 8, 20], square=True)
    assert beyond.shape == (1, 16, 16)
    assert not beyond[:, :, :4].any()
    torch.testing.assert_close(beyond[:, :10, 4:], picture[:, 10:20, :12])


def test_keep_aspect_stretches_nothing(data):
    table, folder = data
    row = table.iloc[0]
    frames = PolypFrames(table, folder, ("location", "rgb"), keep_aspect=True)
    inputs, _ = frames[0]
    side = 2 * int(max(row.xmax - row.xmin, row.ymax - row.ymin))
    picture = np.array(Image.open(folder / row.path)) / 255
    whole = normalised(torch.tensor(picture).permute(2, 0, 1).float())
    box = [int(row[c]) for c in ("xmin", "ymin", "xmax", "ymax")]
    crop = grown_crop(whole, box, square=True)
    assert crop.shape == (3, side, side)
    resized = v2.functional.resize(crop, [64, 64])
    torch.testing.assert_close(inputs["rgb"], resized)


def test_what_is_not_shown_is_zero_everywhere():
    grey = torch.full((3, 40, 60), 0.9)
    inside = normalised(grey) != 0
    assert not inside[:, 0, 0].any()
    assert inside[:, 20, 30].all()
    assert inside.float().mean() == pytest.approx(torch.pi / 4, abs=0.01)
    shown = only_box(normalised(grey), [20, 10, 30, 20])
    assert (shown != 0).sum() == 3 * 100


def test_a_turned_frame_brings_no_second_fill():
    mean = torch.tensor(MEAN)[:, None, None].expand(3, 64, 64)
    frame = {
        "picture": tv_tensors.Image(mean.clone()),
        "depth": tv_tensors.Mask(torch.ones(1, 64, 64)),
    }
    turned = v2.Compose(augmentation().transforms[:3])(frame)
    assert (turned["depth"] == 0).any(), "corners came in"
    # torchvision blends the fill twice along the turned frame's edge, a seam
    # one pixel wide that touches the round content in four points.
    off = normalised(turned["picture"]).abs() > 1e-6 / min(STD)
    assert off.float().mean() < 0.01


def test_depth_spans_minus_one_to_one_over_what_is_known():
    depth = torch.tensor([[[0.0, 3.0], [5.0, 4.0]]])
    assert full_range(depth).tolist() == [[[0.0, -1.0], [1.0, 0.0]]]
    assert not full_range(torch.zeros(1, 2, 2)).any()
    assert full_range(torch.full((1, 2, 2), 7.0)).unique().tolist() == [-1]
    scaled = full_range(3 * depth)
    torch.testing.assert_close(scaled, full_range(depth))


class Mirror(v2.RandomHorizontalFlip):
    def __init__(self):
        super().__init__(p=1)


def test_augmentation_moves_all_streams_together(data):
    table, folder = data
    plain = PolypFrames(table, folder, STREAMS)
    mirrored = PolypFrames(table, folder, STREAMS, augment=Mirror())
    for i in range(0, len(table), 3):
        (one, size), (other, same) = plain[i], mirrored[i]
        assert size == same
        for stream in STREAMS:
            # An odd width makes the grown box half a pixel off centre; the
            # whole frame has none.
            difference = (one[stream].flip(-1) - other[stream]).abs().mean()
            assert difference < (1e-5 if stream == "location" else 0.15)


def test_the_paper_s_augmentation_changes_colours_of_pictures_only(data):
    table, folder = data
    frames = PolypFrames(table, folder, STREAMS, augment=True)
    torch.manual_seed(0)
    first, _ = frames[0]
    second, _ = frames[0]
    assert not torch.equal(first["rgb"], second["rgb"])
    jitter = v2.ColorJitter(0.5)
    torch.manual_seed(0)
    recoloured = PolypFrames(table, folder, STREAMS, augment=jitter)[0][0]
    plain = PolypFrames(table, folder, STREAMS)[0][0]
    assert not torch.equal(recoloured["rgb"], plain["rgb"])
    torch.testing.assert_close(recoloured["depth"], plain["depth"])


def test_a_transform_that_loses_the_box_is_left_out(data):
    table, folder = data

    def shift(frame):
        return {
            name: v2.functional.affine(value, 0, [500, 0], 1, [0, 0])
            for name, value in frame.items()
        }

    plain, _ = PolypFrames(table, folder, STREAMS)[0]
    lost, _ = PolypFrames(table, folder, STREAMS, augment=shift)[0]
    for stream in STREAMS:
        torch.testing.assert_close(plain[stream], lost[stream])


@pytest.mark.parametrize("file", ["{}", "depth/{}"])
@pytest.mark.parametrize("damage", ["truncated", "zeros", "missing", "size"])
def test_a_bad_file_is_named_with_its_row(damaged, file, damage):
    table, folder = damaged
    path = folder / file.format(table.path[1])
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "zeros":  # as an interrupted download leaves it
        content = path.read_bytes()
        half = len(content) // 2
        path.write_bytes(content[:half] + bytes(len(content) - half))
    elif damage == "missing":
        path.unlink()
    else:
        Image.new("RGB", (10, 64)).save(path)
    frames = PolypFrames(table, folder, STREAMS)
    frames[0]
    with pytest.raises(ValueError, match=rf"row 1 \({re.escape(str(path))}\)"):
        frames[1]


def test_a_box_of_less_than_a_pixel_is_shown(data):
    table, folder = data
    thin = table.iloc[[0]].assign(xmin=10.1, xmax=10.4)
    inputs, _ = PolypFrames(thin, folder, STREAMS)[0]
    assert all(view.isfinite().all() for view in inputs.values())


@pytest.mark.parametrize("streams", [(), ("rgb", "sound"), "rgb"])
def test_unknown_streams_are_refused(data, streams):
    with pytest.raises(ValueError, match="streams are some of"):
        PolypFrames(*data, streams)


def test_augmentation_that_is_none_is_refused(data):
    with pytest.raises(ValueError, match="augment is 'yes': give True"):
        PolypFrames(*data, augment="yes")


class TestPolypSampler:
    table = pd.DataFrame(
        {
            "database": "X",
            "polyp": ["a"] * 10 + [None] * 3 + ["b"] + ["c"] * 4,
        }
    )

    def test_no_polyp_is_dropped_and_the_length_is_true(self):
        sampler = PolypSampler(self.table, 3, seed=0)
        rows = list(sampler)
        polyps = self.table.dropna().polyp.iloc[rows].value_counts()
        assert polyps.to_dict() == {"a": 3, "b": 1, "c": 3}
        assert len(rows) == len(sampler) == len(set(rows)) == 7

    def test_epochs_differ_seeds_differ_and_runs_agree(self):
        one, same, other = (PolypSampler(self.table, 3, s) for s in (0, 0, 1))
        first = list(one)
        assert first == list(same)
        assert first != list(other)
        assert first != list(one)
        same.epoch = 0
        assert list(same) == first

    def test_over_epochs_every_frame_is_seen(self):
        sampler = PolypSampler(self.table, 3)
        seen = {row for _ in range(30) for row in sampler}
        assert seen == set(range(15))

    def test_none_is_refused(self):
        with pytest.raises(ValueError, match="frames_per_polyp is 0"):
            PolypSampler(self.table, 0)

    def test_numbers_are_those_of_the_dataset(self, data):
        table, folder = data
        frames = PolypFrames(table.sample(frac=1, random_state=0), folder)
        rows = list(PolypSampler(frames.table, 1))
        assert frames.table.polyp.iloc[rows].is_unique
