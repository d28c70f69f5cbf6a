"""Files of labelled series: UEA .ts, UCR .tsv and NumPy .npz."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError, unknown

PARTS = ("train", "validation", "test")
ARRAYS = ("x", "y", "lengths", "split")
HEADERS = (
    "@problemName @timeStamps @missing @univariate @dimension @dimensions @equalLength @seriesLength @classLabel "
    "@targetLabel @data"
).split()


@dataclass(frozen=True)
class Series:
    """Some labelled series.

    Attributes:
        x: one array (time, inputs) a series.
        label: (n,) class of each, an integer or a string.
    """

    x: list[NDArray[np.float64]]
    label: NDArray[Any]

    def __getitem__(self, rows: NDArray[np.intp]) -> "Series":
        return Series([self.x[row] for row in rows], self.label[rows])


def read_ts(content: bytes, where: str) -> Series:
    """The series of a .ts file.

    Args:
        where: begins every fault.

    Raises:
        DataError: if it is damaged, or has no classes, missing values or time stamps.
    """
    lines = enumerate(map(str.strip, content.decode("utf-8", errors="replace").splitlines()), 1)
    rows = iter([(f"{where}: line {n}", text) for n, text in lines if text and text[0] not in "#%"])
    header: dict[str, str] = {}
    for line, text in rows:
        key, _, value = text.partition(" ")
        if key.lower() not in {known.lower() for known in HEADERS}:
            raise DataError(f"{line}: {unknown('header', key[:30], HEADERS)}")
        header[key.lower()] = value.strip()
        if key.lower() == "@data":
            break
    if "@data" not in header:
        raise DataError(f"{where}: has no @data; it must be a .ts file")
    if header.get("@timestamps", "false").lower() != "false":
        raise DataError(f"{where}: has time stamps; write its series as plain values")
    classes = header.get("@classlabel", "").split()
    if not classes or classes.pop(0).lower() != "true":
        raise DataError(f"{where}: has no classes; expected @classLabel true and their names")
    x, label = [], []
    for line, text in rows:
        *channels, name = (part.strip() for part in text.split(":"))
        x.append(_channels(channels, line))
        label.append(name)
        _check_size(x[-1], header, line)
        if classes and name not in classes:
            raise DataError(f"{line}: class {name!r} is not one of @classLabel ({', '.join(classes)})")
    return Series(x, np.array(label))


def _channels(channels: list[str], line: str) -> NDArray[np.float64]:
    if not channels:
        raise DataError(f"{line}: has no ':'; expected values:...:class")
    values = [channel.replace("?", "nan").split(",") for channel in channels]
    if len(lengths := {len(channel) for channel in values}) > 1:
        raise DataError(f"{line}: its channels have {min(lengths)} to {max(lengths)} steps, expected as many in all")
    return _finite(_numbers(values, line).T, line)


def _check_size(x: NDArray[np.float64], header: dict[str, str], line: str) -> None:
    length, width = x.shape
    if header.get("@univariate", "").lower() == "true":
        _check_count("1", width, "channels", line)
    for key in ("@dimension", "@dimensions"):
        _check_count(header.get(key), width, "channels", line)
    if header.get("@equallength", "").lower() == "true":
        _check_count(header.get("@serieslength"), length, "steps", line)


def _check_count(said: str | None, n: int, what: str, line: str) -> None:
    if said is not None and said != str(n):
        raise DataError(f"{line}: has {n} {what}, the header says {said}")


def read_tsv(content: bytes, where: str) -> Series:
    """The series of a UCR .tsv file.

    Args:
        where: begins every fault.

    Raises:
        DataError: if it is damaged or has missing values.
    """
    x, label = [], []
    n_columns = 0
    for n, text in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
        if not text.strip():
            continue
        line = f"{where}: line {n}"
        name, *values = text.split("\t")
        n_columns = n_columns or len(values)
        if not values or len(values) != n_columns:
            raise DataError(f"{line}: has {len(values)} values behind its class, expected {n_columns or 'some'}")
        numbers = _numbers(values, line)
        length = len(numbers) - int(np.isnan(numbers).sum())  # if any of them is not behind, one stays
        x.append(_finite(numbers[:length, None], line))
        label.append(name)
    return Series(x, np.array(label))


def read_npz(content: bytes, where: str) -> tuple[Series, NDArray[np.intp] | None]:
    """The series of a .npz file, and the part of each (0, 1, 2) if it says.

    Args:
        where: begins every fault.

    Raises:
        DataError: if it is no .npz file, or an array is missing, of a wrong shape or of a wrong type.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise DataError(f"{where}: is no .npz file; write it with numpy.savez")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{where}: cannot be read ({reason}); write plain arrays with numpy.savez") from None
    for name in arrays.keys() - set(ARRAYS):
        raise DataError(f"{where}: {unknown('array', name, ARRAYS)}")
    for name in ("x", "y"):
        if name not in arrays:
            raise DataError(f"{where}: has no array {name}; expected x, y and, if there is need, lengths and split")
    x, y = arrays["x"], arrays["y"]
    if x.ndim not in (2, 3) or 0 in x.shape or x.dtype.kind not in "iuf":
        raise _wrong(where, "x", x, "numbers (n, time, inputs) or (n, time)")
    n, time = x.shape[:2]
    lengths, split = arrays.get("lengths", np.full(n, time)), arrays.get("split")
    if y.shape != (n,) or y.dtype.kind not in "iuU":
        raise _wrong(where, "y", y, f"integers or strings ({n},), one class a series")
    if lengths.shape != (n,) or lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > time:
        raise _wrong(where, "lengths", lengths, f"integers ({n},) of 1 to {time}")
    series = [
        _finite(np.asarray(one[:length], np.float64).reshape(length, -1), f"{where}: x[{row}]")
        for row, (one, length) in enumerate(zip(x, lengths.tolist(), strict=True))
    ]
    if split is None:
        return Series(series, y), None
    known = np.array(PARTS) if split.dtype.kind == "U" else np.arange(len(PARTS))
    if split.shape != (n,) or split.dtype.kind not in "iuU" or not np.isin(split, known).all():
        raise _wrong(where, "split", split, f"({n},) of 0, 1, 2 or of train, validation, test")
    return Series(series, y), (split[:, None] == known).argmax(axis=1)


def _wrong(where: str, name: str, array: NDArray[Any], expected: str) -> DataError:
    values = f" from {array.min()} to {array.max()}" if array.size and array.dtype.kind in "iuf" else ""
    return DataError(f"{where}: {name} is {array.dtype} {array.shape}{values}, expected {expected}")


def _numbers(values: list[Any], line: str) -> NDArray[np.float64]:
    try:
        return np.array(values, np.float64)
    except ValueError as error:
        raise DataError(f"{line}: {error}; expected numbers") from None


def _finite(x: NDArray[np.float64], line: str) -> NDArray[np.float64]:
    if not x.size:
        raise DataError(f"{line}: has no values; leave the series out")
    if not np.isfinite(x).all():
        raise DataError(f"{line}: has missing or infinite values; fill them in or leave the series out")
    return x
