"""A class for each of many series: Japanese vowels, and readers of the usual file formats.

Features are scaled by mean and deviation over the real steps of the training series; padding is
zero. Where a format knows no validation part, it is the last fifth of each class's training series:
the last, so that neighbours in the file, which may come from one recording, stay together.
"""

import hashlib
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks.classification import ClassificationTask, labelled, scaled, stacked
from codesign.tasks.packages import Package, keep
from codesign.tasks.series_files import PARTS, Series, read_npz, read_ts, read_tsv
from codesign.tasks.task import Sequences, Splits

TRAIN_FILE, TEST_FILE = "JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts"
AEON = Package(
    registry="pypi",
    name="aeon",
    version="1.6.0",
    sha256="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    size_bytes=6_421_000,
    extract=keep(f"/JapaneseVowels/{TRAIN_FILE}", f"/JapaneseVowels/{TEST_FILE}"),
)
VALIDATION_SHARE = 0.2
NPZ_SHARES = (0.15, 0.15)  # validation and test, where the file does not say


class JapaneseVowels(ClassificationTask):
    """Which of nine men says /ae/."""

    name: Literal["japanese_vowels"] = "japanese_vowels"
    summary: ClassVar[str] = "which of 9 men says /ae/, 12 LPC cepstra a step, 7 to 29 steps, 640 utterances"
    source: ClassVar[str] = "PyPI package aeon 1.6.0 (UCI data set Japanese Vowels)"
    licence: ClassVar[str] = "package BSD-3-Clause, original UCI data CC BY 4.0 (recalled, not checked)"
    citation: ClassVar[str] = (
        "M. Kudo, J. Toyama, M. Shimbo, Multidimensional curve classification using passing-through regions, "
        "Pattern Recognition Letters 20, 1999"
    )
    package: ClassVar[Package] = AEON

    @property
    def shape(self) -> TaskShape:
        """12 cepstra, 9 men."""
        return TaskShape(12, 9)

    def splits(self) -> Splits:
        """Official training part, the last 6 of each man's 30 for validation, and official test part.

        Raises:
            DataError: if the data were not fetched or are damaged.
        """
        return _japanese_vowels()

    def checksum(self) -> str:
        """The sha256 of both files. Raises DataError if they were not fetched or are damaged."""
        return hashlib.sha256(AEON.read(TRAIN_FILE) + AEON.read(TEST_FILE)).hexdigest()


class _Reader(ClassificationTask, ABC):
    source: ClassVar[str] = "your own data"
    licence: ClassVar[str] = "yours"

    @property
    def shape(self) -> TaskShape:
        """Values of a step, classes of the training series. Raises DataError if they cannot be read."""
        train = _splits(self).train
        return TaskShape(train.x.shape[2], int(train.y.max()) + 1)

    def splits(self) -> Splits:
        """The series. Raises DataError if they cannot be read."""
        return _splits(self)

    def checksum(self) -> str:
        """A sha256 over those of the files. Raises DataError if one cannot be read."""
        digest = hashlib.sha256()
        for path in self._files():
            digest.update(hashlib.sha256(_content(path)).digest())
        return digest.hexdigest()

    @abstractmethod
    def _files(self) -> list[Path]: ...

    @abstractmethod
    def _read(self) -> Splits: ...


class Ts(_Reader):
    """`NAME_TRAIN.ts` and `NAME_TEST.ts`, as the UEA and UCR archives and aeon have them.

    One or more values a step, series of any length, no missing values and no time stamps. The last
    fifth of each class's training series is for validation.

    Source: A. Bagnall et al., "The UEA multivariate time series classification archive, 2018".

    Attributes:
        path: the folder of both files, or their path up to `_TRAIN.ts`.
    """

    reader: Literal["ts"] = "ts"
    path: str
    summary: ClassVar[str] = "class of each series of a pair of UEA .ts files"

    def _files(self) -> list[Path]:
        return _pair(Path(self.path), ".ts")

    def _read(self) -> Splits:
        train, test = (read_ts(_content(path), str(path)) for path in self._files())
        return _official(train, test, self.path)


class Ucr(_Reader):
    """`NAME_TRAIN.tsv` and `NAME_TEST.tsv`, as the UCR archive has them.

    A line is a series: its class, then one value a step, tabs between them; NaN behind the last value
    fill up shorter series. The last fifth of each class's training series is for validation.

    Source: H. A. Dau et al., "The UCR time series archive", IEEE/CAA J. Automatica Sinica 6, 2019.

    Attributes:
        path: the folder of both files, or their path up to `_TRAIN.tsv`.
    """

    reader: Literal["ucr"] = "ucr"
    path: str
    summary: ClassVar[str] = "class of each series of a pair of UCR .tsv files"

    def _files(self) -> list[Path]:
        return _pair(Path(self.path), ".tsv")

    def _read(self) -> Splits:
        train, test = (read_tsv(_content(path), str(path)) for path in self._files())
        return _official(train, test, self.path)


class Npz(_Reader):
    """One file of NumPy arrays.

    Its arrays are `x`, (n, time, inputs) or (n, time) numbers; `y`, (n,) classes, integers or strings;
    and, if there is need, `lengths`, (n,) steps that are no padding, and `split`, (n,) 0, 1, 2 or
    "train", "validation", "test". Without `split` the last 15 % of each class's series are for test,
    the 15 % before them for validation.

    Attributes:
        path: the file.
    """

    reader: Literal["npz"] = "npz"
    path: str
    summary: ClassVar[str] = "class of each series of a .npz file"

    def _files(self) -> list[Path]:
        return [Path(self.path)]

    def _read(self) -> Splits:
        series, part = read_npz(_content(Path(self.path)), self.path)
        rows = _set_apart(series.label, *NPZ_SHARES) if part is None else [np.flatnonzero(part == i) for i in range(3)]
        train, validation, test = (series[chosen] for chosen in rows)
        return _prepared(train, validation, test, self.path)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); it must be a file of series") from None
    if not content:
        raise DataError(f"{path}: is empty; it must be a file of series")
    return content


def _pair(path: Path, ending: str) -> list[Path]:
    """Both files of an archive's data set, from their folder or their common beginning."""
    if path.is_dir():
        names = sorted(file.name.removesuffix(f"_TRAIN{ending}") for file in path.glob(f"*_TRAIN{ending}"))
        name = path.resolve().name
        if name not in names:
            if len(names) != 1:
                raise DataError(
                    f"{path}: has {', '.join(names) or 'nothing'} for NAME in NAME_TRAIN{ending}, expected one; "
                    f"or give the path up to _TRAIN{ending}"
                )
            (name,) = names
        path /= name
    return [path.with_name(f"{path.name}_{part}{ending}") for part in ("TRAIN", "TEST")]


def _set_apart(label: NDArray[Any], *shares: float) -> list[NDArray[np.intp]]:
    """Rows that stay and rows of each share, from the end of every class; a class with too few stays whole."""
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for name in np.unique(label):
        rows = np.flatnonzero(label == name).tolist()
        sizes = [max(1, round(share * len(rows))) if len(rows) > len(shares) else 0 for share in shares]
        for part, size in zip(parts, (len(rows) - sum(sizes), *sizes), strict=True):
            part += rows[:size]
            del rows[:size]
    return [np.array(sorted(part), np.intp) for part in parts]


def _official(train: Series, test: Series, where: str) -> Splits:
    rest, validation = _set_apart(train.label, VALIDATION_SHARE)
    return _prepared(train[rest], train[validation], test, where)


def _prepared(train: Series, validation: Series, test: Series, where: str) -> Splits:
    """Scaled, padded and with numbers for classes, in the order of integers or of strings."""
    classes = np.unique(train.label)
    for name, part in zip(PARTS, (train, validation, test), strict=True):
        if not part.x:
            raise DataError(f"{where}: no series are left for {name}; more of each class are needed")
        if strange := sorted({str(label) for label in part.label} - {str(label) for label in classes}):
            raise DataError(f"{where}: class {strange[0]!r} of {name} has no series in train")
    if len(classes) < 2:
        raise DataError(f"{where}: has one class only ({classes[0]}), at least 2 are needed")
    widths = sorted({x.shape[1] for part in (train, validation, test) for x in part.x})
    if len(widths) > 1:
        raise DataError(f"{where}: its series have {widths[0]} to {widths[-1]} values a step, expected as many in all")
    padded = [stacked(part.x) for part in (train, validation, test)]
    real = [np.arange(x.shape[1]) < lengths[:, None] for x, lengths in padded]
    features = scaled(*(x for x, _ in padded), real=real[0])

    def ready(part: int, label: NDArray[Any]) -> Sequences:
        return labelled(features[part] * real[part][..., None], np.searchsorted(classes, label), padded[part][1])

    return Splits(ready(0, train.label), ready(1, validation.label), ready(2, test.label))


@lru_cache(maxsize=2)
def _splits(reader: _Reader) -> Splits:
    return reader._read()


@lru_cache(maxsize=1)
def _japanese_vowels() -> Splits:
    train, test = (read_ts(AEON.read(name), f"package {AEON.name}: {name}") for name in (TRAIN_FILE, TEST_FILE))
    return _official(train, test, f"package {AEON.name}")
