"""Videos, small ones made here: which frames are fed and how, splits by group in every layout, what is refused."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from codesign.errors import DataError, InputError
from codesign.tasks import Sequences, Splits, video
from codesign.tasks.video import Video

SIZE = (16, 8)
N_INPUTS = 16 * 8 * 3


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No features are kept from elsewhere, on disk or in memory."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    forget()
    yield
    forget()


def forget() -> None:
    video._videos.cache_clear()
    video._splits.cache_clear()


def grey(values: Iterable[int]) -> NDArray[np.uint8]:
    """Frames (n, 8, 16, 3), each of one grey."""
    return np.array([np.full((8, 16, 3), value) for value in values], np.uint8)


def write_array(path: Path, frames: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, frames)


def encode(path: Path, frames: NDArray[np.uint8]) -> None:
    """A real video file: MPEG-1 in .mpg, MPEG-4 in .avi."""
    av = pytest.importorskip("av", reason="needs the extra `video`")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream({".mpg": "mpeg1video", ".avi": "mpeg4"}[path.suffix], rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def arrays(root: Path, names: Iterable[str]) -> Path:
    """Videos of one frame, no two alike."""
    for i, name in enumerate(names):
        write_array(root / name, grey([i]))
    return root


def task(root: Path, **options: object) -> Video:
    forget()
    return Video.model_validate({"path": str(root), "size": SIZE, "frames": 1, **options})


def parts(splits: Splits) -> tuple[Sequences, Sequences, Sequences]:
    return splits.train, splits.validation, splits.test


def names_of(root: Path, splits: Splits) -> list[list[str]]:
    """Names of the videos of each split, told by the grey of their first frame."""
    known = {int(np.load(file)[0, 0, 0, 0]): file.relative_to(root).as_posix() for file in root.rglob("*.npy")}
    return [[known[int(x[0, 0]) + 128] for x in part.x] for part in parts(splits)]


def test_a_pixel_is_its_value_less_128(tmp_path: Path) -> None:
    frame = np.arange(N_INPUTS).reshape(8, 16, 3).astype(np.uint8)
    for name in ("a/1", "a/2", "a/3", "b/1", "b/2", "b/3"):
        write_array(tmp_path / f"{name}.npy", frame[None])
    x = task(tmp_path).splits().train.x
    assert (x.dtype, x.shape) == (np.int8, (2, 1, N_INPUTS))
    assert x[0, 0].tolist() == [value % 256 - 128 for value in range(N_INPUTS)]


@pytest.mark.parametrize(
    ("n", "frames", "middles"),
    [(12, 6, [1, 3, 5, 7, 9, 11]), (100, 4, [12, 37, 62, 87]), (6, 6, [0, 1, 2, 3, 4, 5]), (3, 6, [0, 0, 1, 1, 2, 2])],
)
def test_frames_are_the_middles_of_equal_parts(tmp_path: Path, n: int, frames: int, middles: list[int]) -> None:
    arrays(tmp_path, ["a/1.npy", "a/2.npy", "b/1.npy", "b/2.npy", "b/3.npy"])
    write_array(tmp_path / "a" / "3.npy", grey(range(n)))
    test = task(tmp_path, frames=frames).splits().test
    assert (test.x[0, :, 0].astype(int) + 128).tolist() == middles


def test_differences_are_halves_of_what_changed(tmp_path: Path) -> None:
    arrays(tmp_path, ["a/1.npy", "a/2.npy", "b/1.npy", "b/2.npy", "b/3.npy"])
    write_array(tmp_path / "a" / "3.npy", grey([0, 255, 0, 100, 103, 100]))
    test = task(tmp_path, frames=5, differences=True).splits().test
    assert test.x[0].min(1).tolist() == test.x[0].max(1).tolist() == [127, -128, 50, 1, -2]


def test_the_class_is_due_at_the_last_frame(tmp_path: Path) -> None:
    arrays(tmp_path, [f"{folder}/{n}.npy" for folder in ("dive", "jump", "walk") for n in range(5)])
    found = task(tmp_path, frames=4)
    assert (found.shape.n_inputs, found.shape.n_outputs) == (N_INPUTS, 3)
    splits = found.splits()
    assert splits.train.y.tolist() == [[0, 0, 0, c] for c in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
    for part in parts(splits):
        np.testing.assert_array_equal(part.mask, [[0, 0, 0, 1]] * len(part.x))
        assert part.real.all()


def ucf11(root: Path) -> Path:
    kinds = [(c, f"{g:02d}", f"{v:02d}") for c in ("biking", "golf") for g in range(1, 13) for v in (1, 2, 3)]
    names = [f"{c}/v_{c}_{g}/v_{c}_{g}_{v}.npy" for c, g, v in kinds]
    return arrays(root, [*names, "biking/Annotation/v_biking_01_01.npy", "golf/._v_golf_01_01.npy"])


def ucf101(root: Path) -> Path:
    kinds = [(c, f"{g:02d}", f"{v:02d}") for c in ("Archery", "YoYo") for g in range(1, 13) for v in (1, 2, 3)]
    return arrays(root, [f"{c}/v_{c}_g{g}_c{v}.npy" for c, g, v in kinds])


@pytest.mark.parametrize("lay_out", [ucf11, ucf101])
def test_the_last_fifth_of_the_groups_is_test_and_the_one_before_validation(tmp_path: Path, lay_out: object) -> None:
    assert callable(lay_out)
    root = lay_out(tmp_path / "ucf")
    found = names_of(root, task(root).splits())
    assert [len(part) for part in found] == [48, 12, 12]
    groups = [{int(name.rsplit("_", 2)[1].strip("g")) for name in part} for part in found]
    assert groups == [{1, 2, 3, 4, 5, 6, 7, 8}, {9, 10}, {11, 12}]


def test_a_file_in_a_class_folder_is_a_group_of_its_own(tmp_path: Path) -> None:
    arrays(tmp_path, [f"{c}/{n}.npy" for c in "ab" for n in range(7)])
    found = names_of(tmp_path, task(tmp_path).splits())
    assert found[1:] == [["a/5.npy", "b/5.npy"], ["a/6.npy", "b/6.npy"]]
    assert len(found[0]) == 10


def with_lists(root: Path, folder: Path) -> Path:
    """UCF101 whose second fold tests groups 1 to 3."""
    names = sorted(file.relative_to(root).with_suffix(".npy").as_posix() for file in ucf101(root).rglob("*.npy"))
    held_out = [name for name in names if int(name.split("_g")[1][:2]) <= 3]
    folder.mkdir(exist_ok=True)
    (folder / "testlist02.txt").write_text("".join(f"{name}\n" for name in held_out))
    (folder / "trainlist02.txt").write_text("".join(f"{name} 1\n" for name in names if name not in held_out))
    return root


@pytest.mark.parametrize("inner", [".", "ucfTrainTestlist"])
def test_lists_of_ucf101_are_followed(tmp_path: Path, inner: str) -> None:
    root = with_lists(tmp_path / "ucf", tmp_path / "ucf" / inner)
    found = names_of(root, task(root, fold=2).splits())
    groups = [{int(name.split("_g")[1][:2]) for name in part} for part in found]
    assert groups == [{4, 5, 6, 7, 8, 9, 10, 11}, {12}, {1, 2, 3}]
    assert [len(part) for part in found] == [48, 6, 18]


def refused(root: Path, **options: object) -> str:
    found = task(root, **options)
    with pytest.raises(InputError) as caught:
        found.splits()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lists_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    root = with_lists(tmp_path / "ucf", tmp_path / "ucf")
    assert refused(root, fold=1) == f"{root / 'trainlist01.txt'}: cannot be read (No such file or directory)"
    test, train = root / "testlist02.txt", root / "trainlist02.txt"
    text = test.read_text()
    test.write_text(text + "Archery/v_Archery_g04_c01.npy\n")
    says = "has videos of Archery/v_Archery_g04, a group that is in the training list too"
    assert refused(root, fold=2) == f"{test}: {says}"
    test.write_text(text + "Archery/v_Archery_g99_c01.npy\n")
    assert refused(root, fold=2) == f"{test}: names Archery/v_Archery_g99_c01.npy, which is missing (1 of 19 are)"
    test.write_text("")
    assert refused(root, fold=2) == f"{test}: leaves 48 + 6 + 0 videos for the three splits"
    train.unlink()
    test.unlink()
    assert refused(root, fold=2) == f"task.fold: got 2, but {root} has no testlist02.txt"


def test_folders_without_enough_are_refused_in_one_line(tmp_path: Path) -> None:
    says = "is no folder; expected one with a folder of videos for each class"
    assert refused(tmp_path / "no") == f"{tmp_path / 'no'}: {says}"
    arrays(tmp_path, ["a/1.npy", "a/2.npy", "a/3.npy"])
    assert refused(tmp_path) == f"{tmp_path}: has videos of 1 classes, expected at least two folders CLASS/VIDEO"
    arrays(tmp_path, ["a/1.npy", "a/2.npy", "a/3.npy", "b/1.npy", "b/2.npy"])
    assert refused(tmp_path) == f"{tmp_path}/b: has fewer than three groups of videos, one for each split"


def test_arrays_of_another_kind_are_refused_in_one_line(tmp_path: Path) -> None:
    arrays(tmp_path, [f"{c}/{n}.npy" for c in "ab" for n in range(3)])
    file = tmp_path / "a" / "1.npy"
    for wrong in (np.zeros((2, 8, 16, 3)), np.zeros((2, 16, 8, 3), np.uint8), np.zeros((0, 8, 16, 3), np.uint8)):
        np.save(file, wrong)
        assert refused(tmp_path) == f"{file}: holds {wrong.dtype} {wrong.shape}, expected uint8 (frames, 8, 16, 3)"
    np.save(file, np.array([{}]), allow_pickle=True)
    assert refused(tmp_path) == f"{file}: is no array of frames, or damaged"
    np.save(file, grey([1, 2]))
    file.write_bytes(file.read_bytes()[:-1])
    assert refused(tmp_path) == f"{file}: is no array of frames, or damaged"


def moving(n: int, seed: int) -> NDArray[np.uint8]:
    """Frames (n, 96, 128, 3) of growing brightness, red left and blue right, with a little texture."""
    frames = np.zeros((n, 96, 128, 3), np.uint8)
    texture = np.random.default_rng(seed).integers(0, 8, (96, 128, 1), np.uint8)
    frames[:, :, :64, 0] = frames[:, :, 64:, 2] = (60 + 10 * np.arange(n))[:, None, None]
    return frames + texture


@pytest.mark.parametrize("ending", ["mpg", "avi"])
def test_real_videos_are_decoded_to_the_size(tmp_path: Path, ending: str) -> None:
    for folder in "ab":
        for n in range(3):
            encode(tmp_path / folder / f"{n}.{ending}", moving(12, n))
    x = task(tmp_path, frames=6, size=(32, 24)).splits().train.x
    assert x.shape == (2, 6, 32 * 24 * 3)
    pixels = x[0].reshape(6, 24, 32, 3).astype(int) + 128
    brightness = np.array([60 + 10 * t for t in (1, 3, 5, 7, 9, 11)]) + 3.5
    np.testing.assert_allclose(pixels[:, 4:20, 4:12, 0].mean((1, 2)), brightness, atol=6)
    np.testing.assert_allclose(pixels[:, 4:20, 20:28, 2].mean((1, 2)), brightness, atol=6)
    assert pixels[:, 4:20, 4:12, 1:].mean() < 25
    assert pixels[:, 4:20, 20:28, :2].mean() < 25


def test_damaged_videos_are_named_in_one_line(tmp_path: Path) -> None:
    for folder in "ab":
        for n in range(3):
            encode(tmp_path / folder / f"{n}.avi", moving(20, n))
    file = tmp_path / "a" / "1.avi"
    whole = file.read_bytes()
    for content in (b"", b"no video at all", whole[: len(whole) // 4]):
        file.write_bytes(content)
        line = refused(tmp_path, size=(32, 24))
        assert line.startswith(f"{file}: ")
        assert "decoded" in line


def test_a_file_without_pictures_is_named(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs the extra `video`")
    arrays(tmp_path, [f"{c}/{n}.npy" for c in "ab" for n in range(3)])
    file = tmp_path / "a" / "0.avi"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert refused(tmp_path) == f"{file}: cannot be decoded (no video in it)"


def test_a_missing_decoder_is_one_line_and_arrays_need_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    root = arrays(tmp_path, [f"{c}/{n}.npy" for c in "ab" for n in range(3)])
    assert [len(part.x) for part in parts(task(root).splits())] == [2, 2, 2]
    (root / "a" / "3.mp4").write_bytes(b"a video")
    assert refused(root) == 'reading videos needs PyAV; install it with `pip install "codesign[video]"`'


def test_videos_are_read_once_for_the_same_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = arrays(tmp_path / "videos", [f"{c}/{n}.npy" for c in "ab" for n in range(3)])
    first = task(root, frames=2).splits()
    monkeypatch.setattr(video, "_array_frames", lambda *_: pytest.fail("was read again"))
    np.testing.assert_array_equal(task(root, frames=2).splits().train.x, first.train.x)
    for other in ({"frames": 3}, {"frames": 2, "differences": True}, {"frames": 2, "size": (8, 16)}):
        with pytest.raises(pytest.fail.Exception):
            task(root, **other).splits()


def test_the_checksum_changes_with_videos_and_folds(tmp_path: Path) -> None:
    root = with_lists(tmp_path / "ucf", tmp_path / "ucf")
    for kind in ("train", "test"):
        (root / f"{kind}list03.txt").write_text((root / f"{kind}list02.txt").read_text())
    test = root / "testlist03.txt"
    test.write_text("".join(sorted(test.read_text().splitlines(keepends=True))[1:]))
    first, other_fold = task(root, fold=2).checksum(), task(root, fold=3).checksum()
    write_array(root / "YoYo" / "v_YoYo_g01_c01.npy", grey([1, 2]))
    assert len({first, other_fold, task(root, fold=2).checksum()}) == 3


def test_options_out_of_range_are_refused() -> None:
    for options in ({"size": (4, 120)}, {"size": (160, 2000)}, {"frames": 0}, {"fold": 0}, {"size": (160, 120, 3)}):
        with pytest.raises(ValidationError):
            Video.model_validate({"path": "x", **options})
    assert Video(path="x").size == (160, 120)


def test_no_data_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        _ = Video(path=str(tmp_path / "no")).shape
