"""SYNTHETIC colonoscopy: patients, polyps and frames with chosen cues to size.

`write` fills a folder that `frame_table.read` and `PolypFrames` understand.
The pictures are drawn by a program (see `synthetic_scene`), no patient's
picture is used, and a score on them says nothing about patients.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from .frame_table import BOX, COLUMNS, check
from .synthetic_scene import TUBE_END, Frame, Scene, render

__all__ = ["Cues", "Frame", "Scene", "render", "scenes", "write"]

DEPTH_STEP_MM = 0.01  # one unit in a depth map's 16-bit PNG
LABELS_MM = np.array([2.0, 5.0, 10.0, 15.0, 20.0])  # favourites when rounding


class Cues(NamedTuple):
    """What a data set's pictures tell about size, and how it was filmed.

    Attributes:
        metric_texture: vessels, folds and pits have periods in mm; otherwise
            every polyp's surroundings are scaled by a factor of their own.
        lumen_mm: least and greatest radius of the tube, one per patient.
        distance_mm: least and greatest distance of the camera.
        distance_per_size: an operator's habit: the distance is this many
            times the polyp's size (within 15 %) instead.
        auto_exposure: otherwise brightness tells the distance.
        rounding: share of the polyps whose `size_mm` in the table is rounded
            to the nearest of `LABELS_MM`, as by an endoscopist.
        identity: 0 to 1, how far each polyp has colours of its own.
        view_spread: 1: each frame is a view of its own; towards 0: all frames
            of a polyp are nearly the same.
    """

    metric_texture: bool = True
    lumen_mm: tuple[float, float] = (18.0, 28.0)
    distance_mm: tuple[float, float] = (6.0, 20.0)
    distance_per_size: float | None = None
    auto_exposure: bool = True
    rounding: float = 0.0
    identity: float = 0.0
    view_spread: float = 1.0


def scenes(
    patients: int, seed: int = 0, frames: int = 6, cues: Cues | None = None
) -> Iterator[tuple[tuple[int, int, int], Scene, float]]:
    """Scenes of 1 to 3 polyps a patient, `frames` of each.

    Every patient, polyp and frame has random numbers of its own: more
    patients or frames leave the earlier ones as they were.

    Yields:
        (patient, polyp, frame), the scene, the size that the table states.
    """
    cues = cues or Cues()
    _check(cues)
    for patient in range(patients):
        draw = _generator(seed, patient)
        shared = Scene(
            lumen_mm=float(np.exp(draw.uniform(*np.log(cues.lumen_mm)))),
            wall=_tinted(
                Scene().wall, draw.normal(size=3) * (0.04, 0.08, 0.08)
            ),
            auto_exposure=cues.auto_exposure,
        )
        for polyp in range(draw.choice([1, 2, 3], p=[0.6, 0.28, 0.12])):
            draw = _generator(seed, patient, polyp)
            base, label = _polyp(shared, cues, draw)
            usual = draw.uniform(size=6)
            for frame in range(frames):
                draw = _generator(seed, patient, polyp, frame)
                own = draw.uniform(size=6)
                view = _view(
                    base, cues, usual + cues.view_spread * (own - usual)
                )
                noise = int(draw.integers(2**32))
                yield (
                    (patient, polyp, frame),
                    view._replace(noise=noise),
                    label,
                )


def write(
    folder: str | Path,
    patients: int = 40,
    *,
    seed: int = 0,
    frames: int = 6,
    size: int = 64,
    **switches,
) -> pd.DataFrame:
    """Draw pictures and depth maps into a folder, with their frame table.

    Args:
        folder: gets `table.csv`, `<patient>/<polyp>_<frame>.png` and depth
            maps of the same names under `depth/`, 16-bit PNG in steps of
            `DEPTH_STEP_MM`, 0 outside the content.
        patients: how many; each has 1 to 3 polyps.
        seed: of everything random.
        frames: of each polyp.
        size: width and height of a picture in pixels.
        **switches: fields of `Cues`.

    Returns:
        The checked table, with two more columns: `true_mm`, the size before
        any rounding, and `distance_mm`, from camera to polyp. A polyp too
        small to be seen in a frame leaves a frame without a polyp.
    """
    folder = Path(folder)
    rows = []
    for numbers, scene, label in scenes(
        patients, seed, frames, Cues(**switches)
    ):
        patient, polyp, frame = numbers
        name = f"p{patient:04}"
        path = f"{name}/{polyp}_{frame:04}.png"
        picture = render(scene, size)
        depth = np.rint(picture.depth / DEPTH_STEP_MM).astype(np.uint16)
        for file, pixels in ((path, picture.rgb), (f"depth/{path}", depth)):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / file, compress_level=1)
        row = {"database": "SYNTHETIC", "patient": name, "video": name}
        row |= {"frame": polyp * frames + frame, "path": path}
        row |= {"width": size, "height": size}
        if picture.mask.any():
            row |= {"polyp": f"{name}-{polyp}", "size_mm": label}
            row |= dict(zip(BOX, box(picture.mask), strict=True))
            row |= {"true_mm": scene.size_mm, "distance_mm": scene.distance_mm}
        rows.append(row)
    table = pd.DataFrame(rows, columns=[*COLUMNS, "true_mm", "distance_mm"])
    table = check(table)
    table.to_csv(folder / "table.csv", index=False)
    return table


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The tightest box around a mask [height, width], as `BOX`."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _check(cues: Cues) -> None:
    farthest = TUBE_END * max(cues.lumen_mm)
    if farthest / DEPTH_STEP_MM > np.iinfo(np.uint16).max:
        raise ValueError(
            f"lumen_mm is {cues.lumen_mm}: depths up to {farthest:.0f} mm do "
            f"not fit into 16 bits in steps of {DEPTH_STEP_MM} mm"
        )
    if (times := cues.distance_per_size) is not None and times < 1.5:
        raise ValueError(
            f"distance_per_size is {times}: below 1.5 the camera would touch "
            "the polyp"
        )


def _polyp(
    scene: Scene, cues: Cues, draw: np.random.Generator
) -> tuple[Scene, float]:
    """A patient's scene with one polyp in it, and the polyp's label in mm."""
    size_mm = float(np.clip(np.exp(draw.normal(np.log(5), 0.6)), 2, 20))
    height = min(draw.uniform(0.35, 0.9), 0.8 * scene.lumen_mm / size_mm)
    phases = tuple(draw.uniform(0, 2 * np.pi, size=4).tolist())
    texture_mm = float(np.exp(0.6 * draw.normal()))
    redder = np.log([1.02, draw.uniform(0.68, 0.98), draw.uniform(0.7, 1)])
    own = cues.identity * draw.normal(size=3)
    rounded = draw.uniform() < cues.rounding
    nearest = LABELS_MM[np.abs(LABELS_MM - size_mm).argmin()]
    scene = scene._replace(
        size_mm=size_mm,
        height=float(height),
        phases=phases,
        texture_mm=1.0 if cues.metric_texture else texture_mm,
        wall=_tinted(scene.wall, 0.15 * own),
        polyp=_tinted(scene.wall, redder + 0.4 * own),
    )
    return scene, float(nearest) if rounded else size_mm


def _view(scene: Scene, cues: Cues, numbers: np.ndarray) -> Scene:
    """A scene from a camera inside the lumen, by six numbers 0 to 1."""
    size_mm, lumen_mm = scene.size_mm, scene.lumen_mm
    low, high = np.maximum(cues.distance_mm, np.multiply((1.2, 1.8), size_mm))
    if cues.distance_per_size is not None:
        low, high = np.multiply((0.85, 1.15), cues.distance_per_size * size_mm)
    distance = low + (high - low) * numbers[0]
    if distance > 1.95 * lumen_mm / np.cos(np.radians(75)):
        raise ValueError(
            f"distance {distance:.0f} mm: no camera is that far from a polyp "
            f"within a lumen of radius {lumen_mm:.0f} mm; see distance_mm"
        )
    # The camera keeps a twentieth of the radius away from the wall.
    steep = max(np.cos(np.radians(75)), 0.05 * lumen_mm / distance)
    flat = min(np.cos(np.radians(10)), 1.95 * lumen_mm / distance)
    yaw, pitch = np.radians(25) * (2 * numbers[3:5] - 1)
    return scene._replace(
        distance_mm=float(distance),
        tilt=float(np.arccos(steep + (flat - steep) * numbers[1])),
        roll=float(2 * np.pi * numbers[2]),
        gaze=(float(yaw), float(pitch)),
        gain=float(np.exp(0.3 * (numbers[5] - 0.5))),
    )


def _tinted(
    colour: tuple[float, ...], logarithms: np.ndarray
) -> tuple[float, ...]:
    """A colour times the factors with these logarithms, at most white."""
    return tuple(np.minimum(colour * np.exp(logarithms), 1).tolist())


def _generator(seed: int, *key: int) -> np.random.Generator:
    """Random numbers of one patient, of one of its polyps, or of one frame."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
