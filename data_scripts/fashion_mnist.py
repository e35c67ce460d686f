"""Rebuild hagvig_lib/data/fashion_mnist.xz, to the same arrays.

The source is Debian's package (apt-get install dataset-fashion-mnist) or a
folder with the four original files. Which images are taken, and why they can
be taken again in any language: see `hagvig_lib.data.fashion_mnist`.
"""

import argparse
import gzip
import hashlib
import lzma
import sys
import zlib
from pathlib import Path

import numpy as np

from hagvig_lib.data import fashion_mnist as packaged

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SHA256 = {
    # Of the decompressed files: Debian's .gz headers lack name and date, so
    # the compressed ones differ from the authors' although the data agree.
    "train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte.gz": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}
STATEMENT = """\
Fashion-MNIST (Xiao, Rasul, Vollgraf; arXiv 1708.07747), MIT license,
Copyright 2017 Zalando SE. Reads 31 MB, writes about 4.5 MB, no download.
"""
REMEDY = (
    "Install Debian's package (apt-get install dataset-fashion-mnist, 31 MB), "
    "or put the four original files of the Fashion-MNIST authors into a "
    f"folder and name it with --source: {', '.join(SHA256)}."
)


class SourceError(Exception):
    """An original file is missing or damaged; the message names it."""


def read_idx(source: Path, name: str) -> np.ndarray:
    """One idx file (a big-endian header, then uint8), verified.

    Raises:
        SourceError: the file is missing, damaged or not the published one.
    """
    path = source / name
    print(f"  {name}", flush=True)
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise SourceError(f"{path} is missing. {REMEDY}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{path} is damaged: {error}. {REMEDY}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise SourceError(
            f"{path} holds other data: their sha256 is {digest}, expected "
            f"{SHA256[name]}. {REMEDY}"
        )
    dimensions = content[3]  # bytes 0-2: zero, zero, the code of uint8
    header = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:header], ">u4")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def chosen(labels: np.ndarray, split: str, per_class: int) -> np.ndarray:
    """Row numbers: per class the first by sha256, the classes in turn.

    Args:
        labels: [N], 0..9.
        split: the word that goes into the hash.
    Returns:
        [10 * per_class]; entry i has class i % 10.
    """
    order = np.array(
        sorted(
            range(len(labels)),
            key=lambda i: hashlib.sha256(f"{split} {i}".encode()).digest(),
        )
    )
    by_class = [order[labels[order] == c][:per_class] for c in range(10)]
    return np.stack(by_class, axis=1).ravel()


def rebuild(source: Path) -> bytes:
    """The bytes of the four arrays, as `hagvig_lib.data` publishes them."""
    parts = []
    for stem, split, per_class in (
        ("train", "train", 1000),
        ("t10k", "test", 200),
    ):
        images = read_idx(source, f"{stem}-images-idx3-ubyte.gz")
        labels = read_idx(source, f"{stem}-labels-idx1-ubyte.gz")
        rows = chosen(labels, split, per_class)
        print(f"  {split}: {len(rows):,} of {len(labels):,} images")
        parts += [images[rows].tobytes(), labels[rows].tobytes()]
    return b"".join(parts)


def write(content: bytes, out: Path) -> None:
    """Compress to `out`: aside first, so that no half file ever stands."""
    aside = out.with_name(out.name + ".part")
    try:
        aside.write_bytes(
            lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
        )
        packaged.load(aside)  # what readers will do, and its verification
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--source",
        type=Path,
        default=DEBIAN,
        metavar="DIR",
        help="folder with the four .gz files (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=packaged.PATH,
        metavar="FILE",
        help="file to write (default: the package's own)",
    )
    options = parser.parse_args(arguments)
    print(STATEMENT)
    print(f"Reading {options.source}")
    try:
        content = rebuild(options.source)
    except SourceError as error:
        sys.exit(f"error: {error}")
    print(f"Compressing to {options.out} (about 10 s)", flush=True)
    write(content, options.out)
    print(f"Done: {options.out.stat().st_size:,} bytes, arrays verified")


if __name__ == "__main__":
    main()
