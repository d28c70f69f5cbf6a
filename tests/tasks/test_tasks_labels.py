"""Labelled speech: both kinds of label file, labels at their frames, splits by name, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from pydantic import ValidationError

from codesign.errors import DataError, InputError
from codesign.tasks import Splits, audio, labels
from codesign.tasks.labels import Labels, read_segments
from tests.sounds import noise, write_riff

soundfile = pytest.importorskip("soundfile", reason="needs the extra `audio`")
pytest.importorskip("kaldi_native_fbank", reason="needs the extra `audio`")

# Two seconds; the centre of frame n is at 0.0125 + 0.01 n seconds. HTK: a gap from 0.5 to 0.6 s, a score behind.
XWAVES = "signal ru_0001\nnfields 1\n#\n    0.34200  125 pau\n    0.39200 125 k\n    1.90000  125 pau\n"
HTK = "0 3420000 pau -120.5\n3420000 5000000 k -80.0\n6000000 19000000 pau\n"
FRAMES = {
    XWAVES: ["pau"] * 33 + ["k"] * 5 + ["pau"] * 151 + [None] * 9,
    HTK: ["pau"] * 33 + ["k"] * 16 + [None] * 10 + ["pau"] * 130 + [None] * 9,
}


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No features are kept from elsewhere, on disk or in memory."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    forget()
    yield
    forget()


def forget() -> None:
    labels._corpus.cache_clear()
    labels._splits.cache_clear()


def folders(root: Path, n: int = 10, text: str = XWAVES) -> Path:
    """Utterances in the folders `wav` and `lab`, like those of a Festival voice."""
    (root / "lab").mkdir(parents=True)
    for i in range(n):
        write_riff(root / "wav" / f"ru_{i:04d}.wav", noise(2.0, seed=i))
        (root / "lab" / f"ru_{i:04d}.lab").write_text(text)
    return root


def side_by_side(root: Path, n: int = 10, text: str = XWAVES) -> Path:
    root.mkdir()
    for i in range(n):
        soundfile.write(root / f"ru_{i:04d}.flac", noise(2.0, seed=i), 16_000)
        (root / f"ru_{i:04d}.lab").write_text(text)
    return root


def counts(splits: Splits) -> list[int]:
    return [len(part.x) for part in (splits.train, splits.validation, splits.test)]


def test_segments_of_both_formats(tmp_path: Path) -> None:
    file = tmp_path / "x.lab"
    file.write_text(XWAVES)
    found = read_segments(file)
    assert (found.starts_s.tolist(), found.ends_s.tolist()) == ([0.0, 0.342, 0.392], [0.342, 0.392, 1.9])
    assert list(found.phones) == ["pau", "k", "pau"]
    file.write_text(HTK)
    found = read_segments(file)
    assert (found.starts_s.tolist(), found.ends_s.tolist()) == ([0.0, 0.342, 0.6], [0.342, 0.5, 1.9])
    assert list(found.phones) == ["pau", "k", "pau"]


@pytest.mark.parametrize("text", [XWAVES, HTK], ids=["xwaves", "htk"])
@pytest.mark.parametrize("lay_out", [folders, side_by_side])
def test_labels_are_due_at_their_frames(tmp_path: Path, lay_out: Callable[..., Path], text: str) -> None:
    task = Labels(path=str(lay_out(tmp_path / "voice", text=text)), delay=3)
    assert (task.shape.n_inputs, task.shape.n_outputs, task.pause) == (39, 2, 1)
    splits = task.splits()
    assert counts(splits) == [8, 1, 1]
    for part in (splits.train, splits.validation, splits.test):
        for y, mask in zip(part.y, part.mask, strict=True):
            heard = [("k", "pau")[c] if counted else None for c, counted in zip(y, mask, strict=True)]
            assert heard == [None] * 3 + FRAMES[text]


def test_labels_before_the_first_segment_do_not_count(tmp_path: Path) -> None:
    task = Labels(path=str(folders(tmp_path / "voice", text="10000000 19000000 pau\n")), delay=0)
    assert np.flatnonzero(task.splits().test.mask[0]).tolist() == list(range(99, 189))


def test_splits_follow_the_names_and_the_shares(tmp_path: Path) -> None:
    root = folders(tmp_path / "voice", 10)
    splits = Labels(path=str(root), split=(0.5, 0.3, 0.2), delay=0).splits()
    assert counts(splits) == [5, 3, 2]
    for part, first in ((splits.train, 0), (splits.validation, 5), (splits.test, 8)):
        for row, x in enumerate(part.x):
            raw = audio.cepstra(audio.Sound(noise(2.0, seed=first + row) / np.float32(32768), 16_000))[:, 0]
            assert np.corrcoef(raw, x[:, 0])[0, 1] > 0.99
    np.testing.assert_allclose(splits.train.x.reshape(-1, 39).std(0), 0.25, atol=0.01)


def test_a_change_of_shares_scales_anew(tmp_path: Path) -> None:
    root = folders(tmp_path / "voice", 4)
    write_riff(root / "wav" / "ru_0001.wav", noise(2.0, seed=1) // 50)
    few, more = (Labels(path=str(root), split=split).splits() for split in ((0.25, 0.5, 0.25), (0.5, 0.25, 0.25)))
    assert counts(few) == [1, 2, 1]
    assert not np.array_equal(few.test.x, more.test.x)


def test_sounds_without_labels_are_passed_over(tmp_path: Path) -> None:
    root = folders(tmp_path / "voice")
    write_riff(root / "wav" / "a_song.wav", noise(1.0))
    assert counts(Labels(path=str(root)).splits()) == [8, 1, 1]


def refused(root: Path, **options: object) -> str:
    forget()
    with pytest.raises(InputError) as caught:
        Labels.model_validate({"path": str(root), **options}).splits()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_damaged_label_files_are_named_with_their_line(tmp_path: Path) -> None:
    root = folders(tmp_path / "voice")
    label = root / "lab" / "ru_0003.lab"
    xwaves, htk = "END_SECONDS COLOUR PHONE", "START END PHONE in units of 100 ns"
    for text, says in {
        "#\n0.5 125 pau\n0.7 125\n": f":3: got '0.7 125', expected {xwaves}",
        "#\nhalf 125 pau\n": f":2: got 'half 125 pau', expected {xwaves}",
        "#\n0.5 125 pau\n0.4 125 k\n": ":3: got '0.4 125 k', expected times that rise",
        "#\nnan 125 pau\n": ":2: got 'nan 125 pau', expected times that rise",
        "#\ninf 125 pau\n": ":2: got 'inf 125 pau', expected times that rise",
        "0 100 pau\n\n0.5 200 k\n": f":3: got '0.5 200 k', expected {htk}",
        "0 100 pau\n300 200 k\n": ":2: got '300 200 k', expected times that rise",
        "200 300 pau\n100 400 k\n": ":2: got '100 400 k', expected times that rise",
        "#\n": f": has no labels, expected lines {xwaves}",
        "": f": has no labels, expected lines {htk}",
    }.items():
        label.write_text(text)
        assert refused(root) == f"{label}{says}"
    label.write_bytes(b"#\n0.5 125 \xff\n")
    assert refused(root) == f"{label}: is no UTF-8 text"
    label.write_text("30000000 40000000 pau")
    assert refused(root) == f"{root / 'wav' / 'ru_0003.wav'}: none of its 198 frames lies in a labelled segment"
    with pytest.raises(DataError):
        Labels(path=str(root)).splits()


def test_wrong_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    root = folders(tmp_path / "voice", 4)
    assert refused(root) == f"{root}: has 4 labelled utterances, too few for the shares (0.8, 0.1, 0.1)"
    assert refused(root / "no") == f"{root / 'no'}: is no folder; expected one with sounds and label files"
    assert refused(root / "wav").startswith(
        f"{root / 'wav'}: has no label files; expected wav/NAME.wav and lab/NAME.lab"
    )
    (root / "wav" / "ru_0002.wav").unlink()
    assert refused(root) == f"{root / 'lab' / 'ru_0002.lab'}: has no sound; expected ru_0002.wav or ru_0002.flac"


def test_a_silence_that_no_label_is_called_is_refused_with_the_nearest(tmp_path: Path) -> None:
    root = folders(tmp_path / "voice")
    assert refused(root, silence="paus") == "task.silence: unknown label 'paus'; did you mean 'pau'? Known: k, pau"


@pytest.mark.parametrize("split", [(0.8, 0.1, 0.2), (0.9, 0.1, 0.0), (1.2, -0.1, -0.1), (0.8, float("nan"), 0.1)])
def test_shares_that_are_none_are_refused(split: tuple[float, float, float]) -> None:
    with pytest.raises(ValidationError, match="three shares above 0 whose sum is 1"):
        Labels(path="x", split=split)


def test_the_checksum_changes_with_labels_and_sounds_but_not_with_the_place(tmp_path: Path) -> None:
    def checksum(root: Path) -> str:
        forget()
        return Labels(path=str(root)).checksum()

    root = folders(tmp_path / "voice", 3)
    first = checksum(root)
    moved = root.rename(tmp_path / "elsewhere")
    assert checksum(moved) == first
    (moved / "lab" / "ru_0000.lab").write_text(XWAVES.replace("k\n", "kk\n"))
    second = checksum(moved)
    write_riff(moved / "wav" / "ru_0002.wav", noise(2.1))
    assert len({first, second, checksum(moved)}) == 3


def test_sounds_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Labels(path=str(folders(tmp_path / "voice")))
    first = task.splits()
    forget()
    monkeypatch.setattr(audio, "read_sound", lambda path: pytest.fail("was read again"))
    np.testing.assert_array_equal(task.splits().train.x, first.train.x)
