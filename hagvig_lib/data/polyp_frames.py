"""Frames with a polyp as network inputs, their sizes in mm as targets."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from .frame_table import BOX, UNREADABLE
from .streams import (
    augmentation,
    full_range,
    grown_crop,
    normalised,
    only_box,
)

Stream = Literal["rgb", "location", "depth"]


class PolypFrames(Dataset):
    """Inputs and size of every row of a frame table that has a polyp.

    An item is `(inputs, size_mm)`, with float32 `inputs[stream]` of
    `[C, size, size]`:

    - `rgb` [3]: what is in the box, grown by half its range on each side
      and cut at the frame's edge. It hides the polyp's apparent size.
    - `location` [3]: the whole frame, 0 but for the box. It shows it.
    - `depth` [1]: the depth map's part under the grown box, its range made
      -1 to 1, so without any scale.

    Args:
        table: as `frame_table.check` returns it; `.table` is its part with
            polyps, in the order of the items and with its own row names.
        folder: that the paths start from. The depth map of `a/b.jpg` is
            `depth/a/b.png`, of the picture's size, 0 where unknown.
        streams: some of the three.
        size: height and width of the inputs.
        augment: a transform of torchvision's v2, True for `augmentation()`.
            One that would push the whole box out of the frame is left out.
        keep_aspect: grow the box to a square instead of stretching it.

    Raises:
        ValueError: no row has a polyp, a stream doesn't exist, `augment`
            is something else; and for an
            item, its row and file if that can't be decoded or has another
            size than the table says.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        folder: str | Path,
        streams: Sequence[Stream] = ("rgb",),
        size: int = 64,
        augment: bool | Callable[[dict], dict] = False,
        keep_aspect: bool = False,
    ):
        if not streams or not set(streams) <= set(get_args(Stream)):
            raise ValueError(
                f"streams are some of {get_args(Stream)}, got {streams!r}"
            )
        if not (isinstance(augment, bool) or callable(augment)):
            raise ValueError(
                f"augment is {augment!r}: give True, False or a transform"
            )
        self.table = _with_polyp(table)
        self.folder = Path(folder)
        self.streams = tuple(streams)
        self.size = size
        self.augment = augmentation() if augment is True else augment
        self.keep_aspect = keep_aspect

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        row = self.table.iloc[index]
        frame = self._frame(row)
        if callable(self.augment):
            augmented = self.augment(frame)
            low, high = augmented["box"][0].split(2)
            frame = augmented if (high - low).min() >= 1 else frame
        low, high = frame["box"][0].split(2)
        box = torch.cat([low.floor(), high.ceil()]).int().tolist()
        picture = normalised(frame["picture"])
        views = {}
        if "rgb" in self.streams:
            views["rgb"] = grown_crop(picture, box, self.keep_aspect)
        if "location" in self.streams:
            views["location"] = only_box(picture, box)
        if "depth" in self.streams:
            depth = grown_crop(frame["depth"], box, self.keep_aspect)
            views["depth"] = full_range(depth)
        size = [self.size, self.size]
        inputs = {
            name: F.resize(views[name], size).as_subclass(Tensor)
            for name in self.streams
        }
        return inputs, torch.tensor(row.size_mm, dtype=torch.float32)

    def _frame(self, row: pd.Series) -> dict[str, Tensor]:
        """Picture, box and depth map of a row, to be augmented together."""
        edges = torch.tensor([[row[name] for name in BOX]])
        picture = self._decode(row, row.path, "RGB").float() / 255
        frame: dict[str, Tensor] = {
            "picture": tv_tensors.Image(picture),
            "box": tv_tensors.BoundingBoxes(  # pyright: ignore[reportCallIssue]
                edges, format="XYXY", canvas_size=(row.height, row.width)
            ),
        }
        if "depth" in self.streams:
            path = Path("depth", row.path).with_suffix(".png")
            frame["depth"] = tv_tensors.Mask(self._decode(row, path).float())
        return frame

    def _decode(
        self, row: pd.Series, path: str | Path, mode: str | None = None
    ) -> Tensor:
        file = self.folder / path
        try:
            with Image.open(file) as picture:
                pixels = np.array(picture.convert(mode) if mode else picture)
        except UNREADABLE as error:
            raise ValueError(f"row {row.name} ({file}): {error}") from error
        if pixels.shape[:2] != (row.height, row.width):
            raise ValueError(
                f"row {row.name} ({file}): height, width are "
                f"{pixels.shape[:2]}, not {row.height, row.width}"
            )
        return torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)


class PolypSampler(Sampler[int]):
    """At most so many frames of each polyp an epoch, and no polyp dropped.

    Frames are drawn without replacement and shuffled; a polyp with fewer
    gives all. Each pass over the sampler is another epoch; two samplers with
    the same seed agree, epoch by epoch.

    Args:
        table: of the `PolypFrames` that the numbers are for.
        frames_per_polyp: 1 or more.
        seed: with the epoch, decides the choice.
    """

    def __init__(
        self, table: pd.DataFrame, frames_per_polyp: int, seed: int = 0
    ):
        if frames_per_polyp < 1:
            raise ValueError(
                f"frames_per_polyp is {frames_per_polyp}; 1 or more"
            )
        rows = _with_polyp(table).reset_index(drop=True)
        groups = rows.groupby(["database", "polyp"], observed=True)
        self.polyps = list(groups.indices.values())
        self.frames_per_polyp = frames_per_polyp
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        limit = self.frames_per_polyp
        return sum(min(len(rows), limit) for rows in self.polyps)

    def __iter__(self) -> Iterator[int]:
        draw = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        limit = self.frames_per_polyp
        chosen = [draw.permutation(rows)[:limit] for rows in self.polyps]
        yield from draw.permutation(np.concatenate(chosen)).tolist()


def _with_polyp(table: pd.DataFrame) -> pd.DataFrame:
    rows = table.loc[table.polyp.notna()]
    if rows.empty:
        raise ValueError(f"none of the table's {len(table)} rows has a polyp")
    return rows
