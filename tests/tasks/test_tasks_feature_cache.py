"""Kept features: made once, the same ones again, made anew when damaged or when anything they depend on changes."""

from pathlib import Path

import numpy as np
import platformdirs
import pytest

from codesign.errors import DataError
from codesign.tasks.feature_cache import Arrays, cached

ARRAYS = {"x": np.arange(6, dtype=np.int8).reshape(2, 3), "lengths": np.array([3, 1])}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where features are kept."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "codesign" / "features"


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return ARRAYS


def same(found: Arrays) -> None:
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_features_are_made_once(folder: Path) -> None:
    make = Maker()
    same(cached("video", ("abc", 6), make))
    same(cached("video", ("abc", 6), make))
    assert make.calls == 1
    assert [path.name.split("-")[0] for path in folder.iterdir()] == ["video"]


def test_whatever_they_depend_on_makes_them_anew() -> None:
    make = Maker()
    for reader, made_from in (("video", ("a", 6)), ("video", ("a", 7)), ("video", ("b", 6)), ("timit", ("a", 6))):
        same(cached(reader, made_from, make))
    assert make.calls == 4


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_cut_file_is_made_anew(folder: Path, left: int) -> None:
    make = Maker()
    cached("video", ("a",), make)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:left])
    same(cached("video", ("a",), make))
    assert make.calls == 2
    assert file.read_bytes()[:100] == whole[:100]


def test_a_changed_byte_is_noticed(folder: Path) -> None:
    make = Maker()
    cached("video", ("a",), make)
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[content.index(ARRAYS["x"].tobytes())] ^= 1
    file.write_bytes(content)
    same(cached("video", ("a",), make))
    assert make.calls == 2


def test_nothing_is_left_of_features_that_could_not_be_made(folder: Path) -> None:
    def make() -> Arrays:
        raise DataError("no such video")

    with pytest.raises(DataError, match="^no such video$"):
        cached("video", ("a",), make)
    assert not folder.exists()


def test_a_stop_while_writing_leaves_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: object, **arrays: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached("video", ("a",), Maker())
    assert list(folder.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_warning(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="features cannot be kept"):
        same(cached("video", ("a",), Maker()))
