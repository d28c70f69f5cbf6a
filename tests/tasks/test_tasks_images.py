"""Images: the IDX format and its refusals, what a step is, and the splits of the real data."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks import Sequences, Splits
from codesign.tasks.images import (
    DIGITS,
    DIGITS_FILE,
    FASHION,
    FashionPixels,
    FashionRows,
    Idx,
    Images,
    Mnist5kRows,
    fashion,
    read_idx,
)

MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DOTTED = ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte")
EMNIST = tuple(f"emnist-letters-{name.replace('t10k', 'test')}.gz" for name in MNIST)


def idx(array: NDArray[np.integer]) -> bytes:
    """The bytes of an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype("u1").tobytes()


def written(folder: Path, names: tuple[str, ...] = MNIST, n_train: int = 24, n_test: int = 5) -> Path:
    """A folder of images of 3 rows of 2 pixels; image i of the training part is of class i % 4, all its pixels 2 i."""
    folder.mkdir(exist_ok=True)
    parts = []
    for n, offset in ((n_train, 0), (n_test, 100)):
        number = np.arange(n)
        parts += [(2 * number + offset)[:, None, None] + np.zeros((1, 3, 2), int), number % 4]
    for name, part in zip(names, parts, strict=True):
        content = idx(part)
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def parts(splits: Splits) -> tuple[Sequences, Sequences, Sequences]:
    return splits.train, splits.validation, splits.test


def labels(part: Sequences) -> list[int]:
    """The class of each sequence, which is due at its last step only."""
    assert part.mask[:, -1].all() and not part.mask[:, :-1].any()
    return [int(label) for label in part.y[:, -1]]


def refusal(task: Idx) -> str:
    with pytest.raises(DataError) as caught:
        task.splits()
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{task.path}", "FOLDER")


def test_an_idx_file_is_read_as_it_was_written() -> None:
    array = np.arange(24).reshape(2, 4, 3) * 10
    for content in (idx(array), gzip.compress(idx(array))):
        read = read_idx(content, "x", 3)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, array)
    assert read_idx(idx(np.array([3, 1, 255])), "x", 1).tolist() == [3, 1, 255]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "begins with nothing, expected IDX bytes (00000803)"),
        (b"PNG image", "begins with 504e4720, expected IDX bytes (00000803)"),
        (idx(np.zeros(40, int)), "begins with 00000801, expected IDX bytes (00000803)"),
        (b"\0\0\x0d\3" + idx(np.zeros((2, 2, 2), int))[4:], "begins with 00000d03, expected IDX bytes (00000803)"),
        (idx(np.zeros((2, 2, 2), int))[:10], "begins with 00000803, expected IDX bytes (00000803)"),
        (idx(np.zeros((2, 3, 4), int))[:-1], "holds 23 bytes, its header says 2 x 3 x 4"),
        (idx(np.zeros((2, 3, 4), int)) + b"!", "holds 25 bytes, its header says 2 x 3 x 4"),
        (gzip.compress(idx(np.zeros((2, 3, 4), int)), mtime=0)[:-9], "is a damaged gzip file"),
        (gzip.compress(b"", mtime=0)[:2] + bytes(20), "is a damaged gzip file"),
        (gzip.compress(b"", mtime=0)[:10] + bytes([7] * 20), "is a damaged gzip file"),
    ],
)
def test_another_file_is_refused_in_one_line(content: bytes, fault: str) -> None:
    with pytest.raises(DataError) as caught:
        read_idx(content, "file", 3)
    assert str(caught.value) == f"file: {fault}"


def test_a_step_is_a_row_or_a_pixel_of_half_its_value() -> None:
    pixels = np.array([[[0, 1, 2], [253, 254, 255]], [[9, 9, 9], [10, 11, 12]]], np.uint8)
    images = Images(pixels, np.array([7, 200], np.uint8))
    rows = images.sequences(slice(None), "rows")
    assert rows.x.dtype == np.int8
    assert rows.x.tolist() == [[[0, 0, 1], [126, 127, 127]], [[4, 4, 4], [5, 5, 6]]]
    assert labels(rows) == [7, 200]
    one = images.sequences(np.array([1]), "pixels")
    assert one.x.tolist() == [[[4], [4], [4], [5], [5], [6]]]
    assert labels(one) == [200]


@pytest.mark.parametrize("names", [MNIST, DOTTED, EMNIST, tuple(f"{name}.gz" for name in MNIST)])
def test_a_folder_is_found_under_all_usual_names(names: tuple[str, ...], tmp_path: Path) -> None:
    task = Idx(path=str(written(tmp_path / "images", names)))
    (tmp_path / "images" / "train-images-idx3-ubyte.txt").write_text("about the images")
    assert task.shape == TaskShape(2, 4)
    train, validation, test = parts(task.splits())
    assert train.x[:, 0, 0].tolist() == list(range(22))
    assert validation.x[:, 0, 0].tolist() == [22, 23]
    assert test.x[:, 0, 0].tolist() == [50, 51, 52, 53, 54]
    assert [part.x.shape[1:] for part in (train, validation, test)] == [(3, 2)] * 3
    assert labels(train) == [number % 4 for number in range(22)]
    assert labels(validation) == [2, 3]
    assert labels(test) == [0, 1, 2, 3, 0]


def test_pixels_come_one_by_one(tmp_path: Path) -> None:
    task = Idx(path=str(written(tmp_path / "images")), order="pixels")
    assert task.shape == TaskShape(1, 4)
    assert [part.x.shape for part in parts(task.splits())] == [(22, 6, 1), (2, 6, 1), (5, 6, 1)]


def test_validation_is_a_twelfth_rounded(tmp_path: Path) -> None:
    for n, n_validation in ((12, 1), (17, 1), (19, 2), (30, 2), (31, 3)):
        task = Idx(path=str(written(tmp_path / str(n), n_train=n)))
        assert [len(part.x) for part in parts(task.splits())] == [n - n_validation, n_validation, 5]


def test_the_plain_file_is_read_where_both_are_there(tmp_path: Path) -> None:
    folder = written(tmp_path / "images")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    assert Idx(path=str(folder)).shape == TaskShape(2, 4)


def test_the_checksum_changes_with_the_data_only(tmp_path: Path) -> None:
    first, second = (Idx(path=str(written(tmp_path / name))) for name in "ab")
    assert first.checksum() == second.checksum() and first.identity() == second.identity()
    assert first.identity() != Idx(path=first.path, order="pixels").identity()
    labels_file = tmp_path / "b" / MNIST[3]
    labels_file.write_bytes(labels_file.read_bytes()[:-1] + b"\2")
    assert first.checksum() != second.checksum()


def test_a_folder_without_them_is_refused(tmp_path: Path) -> None:
    task = Idx(path=str(written(tmp_path / "images")))
    (tmp_path / "images" / MNIST[3]).unlink()
    assert refusal(task) == f"FOLDER: has no file for {MNIST[3]}, expected one, perhaps with .gz"
    missing = Idx(path=str(tmp_path / "none"))
    assert refusal(missing) == f"FOLDER: is no folder; expected one with {', '.join(MNIST)}, perhaps with .gz"


def test_a_folder_of_several_data_sets_is_refused(tmp_path: Path) -> None:
    task = Idx(path=str(written(tmp_path / "images", EMNIST)))
    written(tmp_path / "images", tuple(name.replace("letters", "digits") for name in EMNIST))
    both = "emnist-digits-train-images-idx3-ubyte.gz, emnist-letters-train-images-idx3-ubyte.gz"
    assert refusal(task) == f"FOLDER: has {both} for {MNIST[0]}, expected one, perhaps with .gz"


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        (1, idx(np.zeros(23, int)), "FOLDER/train-labels-idx1-ubyte: has 23 labels for 24 images"),
        (3, idx(np.zeros(4, int)), "FOLDER/t10k-labels-idx1-ubyte: has 4 labels for 5 images"),
        (3, idx(np.array([0, 1, 2, 4, 3])), "FOLDER/t10k-labels-idx1-ubyte: has class 4, training has none above 3"),
        (
            2,
            idx(np.zeros((5, 2, 2), int)),
            "FOLDER/t10k-images-idx3-ubyte: has images 5 x 2 x 2, expected some like the training images 24 x 3 x 2",
        ),
        (
            0,
            idx(np.zeros((24, 3, 0), int)),
            "FOLDER/train-images-idx3-ubyte: has images 24 x 3 x 0, expected some like the training images 24 x 3 x 0",
        ),
        (2, b"PNG", "FOLDER/t10k-images-idx3-ubyte: begins with 504e47, expected IDX bytes (00000803)"),
    ],
)
def test_files_that_do_not_fit_are_refused(file: int, content: bytes, fault: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "images")
    (folder / MNIST[file]).write_bytes(content)
    assert refusal(Idx(path=str(folder))) == fault


def test_too_few_or_no_images_are_refused(tmp_path: Path) -> None:
    few = Idx(path=str(written(tmp_path / "few", n_train=11)))
    assert refusal(few) == "FOLDER/train-images-idx3-ubyte: has 11 images, at least 12 are needed"
    none = Idx(path=str(written(tmp_path / "none", n_test=0)))
    assert refusal(none).startswith("FOLDER/t10k-images-idx3-ubyte: has images 0 x 3 x 2, expected some")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "images")
    (folder / MNIST[1]).unlink()
    (folder / MNIST[1]).mkdir()
    assert refusal(Idx(path=str(folder))) == f"FOLDER/{MNIST[1]}: cannot be read (Is a directory)"


needs_fashion = pytest.mark.skipif(
    not FASHION.present, reason="data of fashion_rows are not fetched; run codesign data fetch fashion_rows"
)
needs_digits = pytest.mark.skipif(
    not DIGITS.present, reason="data of mnist5k_rows are not fetched; run codesign data fetch mnist5k_rows"
)


@pytest.mark.parametrize("task", [FashionRows(), FashionPixels(), Mnist5kRows()])
def test_shapes_and_checksums_need_no_data(task: FashionRows | FashionPixels | Mnist5kRows) -> None:
    assert task.shape == TaskShape(1 if isinstance(task, FashionPixels) else 28, 10)
    assert task.package is not None and task.checksum() == task.package.sha256


@needs_fashion
@pytest.mark.parametrize(("subset", "n_train"), [("full", 55_000), ("mini", 10_000)])
def test_fashion_rows_are_ranges_of_the_files(subset: str, n_train: int) -> None:
    train, test = fashion()
    assert (len(train.label), len(test.label)) == (60_000, 10_000)
    splits = FashionRows.model_validate({"subset": subset}).splits()
    ranges = (train, 0, n_train), (train, 55_000, 60_000), (test, 0, 10_000)
    for part, (images, begin, end) in zip(parts(splits), ranges, strict=True):
        assert labels(part) == images.label[begin:end].tolist()
        np.testing.assert_array_equal(part.x, images.pixels[begin:end] // 2)


@needs_fashion
def test_the_first_garments_are_the_known_ones() -> None:
    train, test = fashion()
    assert train.label[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert test.label[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert train.pixels.mean() == pytest.approx(72.94, abs=0.01)  # 0.2860 of 255, as often used to normalise
    assert np.bincount(train.label).tolist() == [6000] * 10 and np.bincount(test.label).tolist() == [1000] * 10


@needs_fashion
def test_fashion_pixels_are_the_rows_in_a_line() -> None:
    pixels, rows = FashionPixels(subset="mini").splits().validation, FashionRows(subset="mini").splits().validation
    assert pixels.x.shape == (5_000, 784, 1)
    np.testing.assert_array_equal(pixels.x.reshape(rows.x.shape), rows.x)
    assert labels(pixels) == labels(rows)


@needs_digits
def test_digits_are_split_evenly_without_an_image_in_two_parts() -> None:
    splits = Mnist5kRows().splits()
    for part, n in zip(parts(splits), (350, 50, 100), strict=True):
        assert np.bincount(labels(part)).tolist() == [n] * 10
        assert labels(part)[:20] == [*range(10)] * 2
    images = [x.tobytes() for part in parts(splits) for x in part.x]
    assert len(set(images)) == 5_000


@needs_digits
def test_digits_keep_their_labels_and_are_drawn_from_all_of_the_file() -> None:
    table = np.loadtxt(gzip.decompress(DIGITS.read(DIGITS_FILE)).decode().splitlines(), delimiter=",", dtype=np.uint8)
    line = {(row[:-1] // 2).tobytes(): number for number, row in enumerate(table)}
    for part in parts(Mnist5kRows().splits()):
        numbers = np.array([line[x.tobytes()] for x in part.x])
        assert labels(part) == table[numbers, -1].tolist()
        assert abs((numbers % 500).mean() - 249.5) < 20  # the mean of 500 drawn ones deviates by 6.5
