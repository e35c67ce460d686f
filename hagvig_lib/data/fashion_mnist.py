"""Fashion-MNIST, 10,000 training and 2,000 test images, in the package.

Real photographs of clothes, 28 x 28 grey pixels, ten classes; Xiao, Rasul and
Vollgraf, arXiv 1708.07747. License: MIT, in LICENSE-fashion-mnist.

Row i of either split has class i % 10, so every prefix of a multiple of ten
rows is balanced: take `images[:n]` for a smaller set, shuffle for training.

Provenance: `data_scripts/fashion_mnist.py` took the first 1,000 (test: 200)
images of each class, in the order of the sha256 of "train <index>" ("test
<index>"), from Debian's package dataset-fashion-mnist, version
0.0~git20200523.55506a9-1, whose .deb has the sha256
39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0.
`fashion_mnist.xz` is the bytes of the four arrays below, in that order.
"""

import hashlib
import lzma
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PATH = Path(__file__).with_name("fashion_mnist.xz")
# The arrays in the file, all uint8: shape, sha256 of the decoded bytes.
ARRAYS = {
    "train images": (
        (10_000, 1, 28, 28),
        "699cd09b35bcae63293fdd6699197e8588cdb2b3785f5a8c3a38955f88370268",
    ),
    "train labels": (
        (10_000,),
        "f24756e9fc27107597cd054b9df7247b4e5ab61780d1e5d55e7b1015307573de",
    ),
    "test images": (
        (2_000, 1, 28, 28),
        "4343dd8f85eb0fa81f34307536be0af17faae349edc327804c898227ebba531b",
    ),
    "test labels": (
        (2_000,),
        "19efeabbd5fed476d80e2ce2609cdc76c23b9694a1631c6371599ab362810a91",
    ),
}
# Of the 10,000 training images, scaled to 0..1.
MEAN, STD = 0.2858, 0.3531


class Images(NamedTuple):
    """Labelled grey images.

    Attributes:
        images: uint8 [N, 1, 28, 28], 0 is the background.
        labels: int64 [N], an index into `CLASSES`.
    """

    images: torch.Tensor
    labels: torch.Tensor


def load(path: Path = PATH) -> tuple[Images, Images]:
    """Training and test images, verified against the published sha256.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ValueError: the file is truncated, corrupted or holds other data.
    """
    remedy = (
        "Install the package again (pip's --force-reinstall) or, in a clone, "
        "rebuild the file: python data_scripts/fashion_mnist.py"
    )
    try:
        content = lzma.decompress(path.read_bytes())
    except FileNotFoundError as error:
        message = f"The data file {path} is missing. {remedy}"
        raise FileNotFoundError(message) from error
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(
            f"The data file {path} cannot be decompressed ({error}): it is "
            f"truncated or corrupted. {remedy}"
        ) from error
    try:
        arrays = split(content)
    except ValueError as error:
        raise ValueError(f"The data file {path}: {error}. {remedy}") from error
    train_images, train_labels, test_images, test_labels = map(
        torch.from_numpy, arrays.values()
    )
    return (
        Images(train_images, train_labels.long()),
        Images(test_images, test_labels.long()),
    )


def split(content: bytes) -> dict[str, np.ndarray]:
    """The decompressed bytes as the named `ARRAYS`, each verified.

    Raises:
        ValueError: the number of bytes or the sha256 of an array is not the
            one that `ARRAYS` states.
    """
    ends = np.cumsum([math.prod(shape) for shape, _ in ARRAYS.values()])
    if len(content) != ends[-1]:
        raise ValueError(
            f"it has {len(content):,} bytes after decompression, expected "
            f"{ends[-1]:,}"
        )
    buffer = np.frombuffer(bytearray(content), np.uint8)  # writable
    arrays = dict(zip(ARRAYS, np.split(buffer, ends[:-1]), strict=True))
    for name, (shape, expected) in ARRAYS.items():
        digest = hashlib.sha256(arrays[name].data).hexdigest()
        if digest != expected:
            raise ValueError(
                f"its {name} are not the published ones (sha256 {digest}, "
                f"expected {expected})"
            )
        arrays[name] = arrays[name].reshape(shape)
    return arrays


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Pixels as float32 with mean 0, deviation 1 over the training images.

    Args:
        images: uint8 of any shape, 0..255.
    Raises:
        TypeError: the images are not uint8, so perhaps scaled already.
    """
    if images.dtype != torch.uint8:
        raise TypeError(
            f"images are {images.dtype}; normalise takes the uint8 pixels "
            "that load() returns"
        )
    return (images.float() / 255 - MEAN) / STD
