"""TIMIT, on small trees of its layout: who is in which split, folding, labels at their frames, and odd copies."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from codesign.errors import DataError
from codesign.tasks import Splits, audio, timit
from codesign.tasks.timit import CLASSES, CORE_TEST, FOLDED, PHONES, UNFOLDED, VALIDATION, Timit
from tests.sounds import noise, write_riff, write_sphere

pytest.importorskip("soundfile", reason="needs the extra `audio`")
pytest.importorskip("kaldi_native_fbank", reason="needs the extra `audio`")

# 48 frames; the centre of frame n is at sample 160 n + 200.
LABELS = "0 1600 h#\n1600 4000 aa\n4000 4800 q\n4800 6400 ao\n6400 8000 ix\n"
BY_HAND = ["sil"] * 9 + ["aa"] * 15 + [None] * 5 + ["aa"] * 10 + ["ih"] * 9
SPEAKERS = {
    "TRAIN": {"DR1": ["FCJF0", "MCPM0"], "DR8": ["FBCG1"]},
    "TEST": {"DR1": ["FAKS0", "MDAB0"], "DR2": ["MTAS1"], "DR7": ["MZZZ9"]},
}
SENTENCES = ("SA1", "SI1027", "SX37")
LINE = (
    "holds 3 of 462 training speakers (6 of 3696 sentences), 1 of 50 validation speakers (2 of 400 sentences), "
    "2 of 24 core test speakers (4 of 192 sentences); missing first: fdac1, fjem0, mgwt0"
)


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No features are kept from elsewhere, on disk or in memory."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    forget()
    yield tmp_path / "cache"
    forget()


def forget() -> None:
    timit._corpus.cache_clear()
    timit._splits.cache_clear()


def sample(speaker: str, sentence: str) -> NDArray[np.int16]:
    return noise(0.5, seed=sum(map(ord, speaker + sentence)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three training speakers, one of validation, two of the core test and one of neither."""
    for half, regions in SPEAKERS.items():
        for region, speakers in regions.items():
            for speaker in speakers:
                for sentence in SENTENCES:
                    file = tmp_path / "TIMIT" / half / region / speaker / f"{sentence}.WAV"
                    write_sphere(file, sample(speaker, sentence))
                    file.with_suffix(".PHN").write_text(LABELS)
    return tmp_path / "TIMIT"


def splits(tree: Path, delay: int = 5) -> Splits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return Timit(path=str(tree), delay=delay).splits()


def identical(a: Splits, b: Splits) -> bool:
    pairs = [(a.train, b.train), (a.validation, b.validation), (a.test, b.test)]
    return all(np.array_equal(getattr(p, part), getattr(q, part)) for p, q in pairs for part in ("x", "y", "mask"))


def test_the_lists_are_those_of_the_corpus() -> None:
    assert (len(VALIDATION), len(CORE_TEST)) == (50, 24) == (len(set(VALIDATION)), len(set(CORE_TEST)))
    assert not set(VALIDATION) & set(CORE_TEST)
    assert sum(name.startswith("m") for name in CORE_TEST) == 16
    assert all(name[0] in "mf" and len(name) == 5 and name[-1].isdigit() for name in (*VALIDATION, *CORE_TEST))


def test_sixty_labels_fold_to_thirty_nine_and_q_to_none() -> None:
    assert len(PHONES) == 39 == len(set(PHONES))
    assert len(CLASSES) == 60
    assert timit.GLOTTAL_STOP not in CLASSES
    assert set(CLASSES.values()) == set(range(39))
    silences = {label for label, number in CLASSES.items() if number == Timit(path="").pause}
    assert silences == {"h#", "pau", "epi", "bcl", "dcl", "gcl", "pcl", "tcl", "kcl"}
    assert (len(FOLDED), len(UNFOLDED.split())) == (12, 27)
    pairs = [("ao", "aa"), ("ax-h", "ah"), ("axr", "er"), ("hv", "hh"), ("ix", "ih"), ("el", "l"), ("em", "m")]
    for label, phone in [*pairs, ("nx", "n"), ("eng", "ng"), ("zh", "sh"), ("ux", "uw")]:
        assert CLASSES[label] == CLASSES[phone] == PHONES.index(phone)


def test_speakers_are_where_the_lists_say_and_sa_sentences_nowhere(tree: Path) -> None:
    found = splits(tree)
    assert [len(part.x) for part in (found.train, found.validation, found.test)] == [6, 2, 4]
    utterances = {x.tobytes() for part in (found.train, found.validation, found.test) for x in part.x}
    assert len(utterances) == 12


def test_a_speaker_of_the_test_half_that_no_list_names_is_left_out(tree: Path) -> None:
    before = splits(tree)
    shutil.rmtree(tree / "TEST" / "DR7")
    forget()
    assert identical(before, splits(tree))


@pytest.mark.parametrize("delay", [0, 5])
def test_labels_are_due_at_their_frames_and_q_does_not_count(tree: Path, delay: int) -> None:
    found = splits(tree, delay)
    for part in (found.train, found.validation, found.test):
        assert part.x.shape[1:] == (48 + delay, 39)
        for y, mask in zip(part.y, part.mask, strict=True):
            heard = [PHONES[c] if counts else None for c, counts in zip(y, mask, strict=True)]
            assert heard == [None] * delay + BY_HAND


def test_features_are_scaled_by_the_training_frames(tree: Path) -> None:
    train = splits(tree, 0).train.x.reshape(-1, 39)
    np.testing.assert_allclose(train.mean(0), 0.0, atol=0.005)
    np.testing.assert_allclose(train.std(0), 0.25, atol=0.01)
    assert train.min() >= -1.0
    assert train.max() < 1.0


def test_features_belong_to_their_sentence(tree: Path) -> None:
    raw = audio.with_differences(audio.cepstra(audio.Sound(sample("MTAS1", "SX37") / np.float32(32768), 16_000)))
    x = splits(tree, 0).test.x[3]
    inside = np.abs(x) < 0.95
    for j in range(39):
        assert np.corrcoef(raw[inside[:, j], j], x[inside[:, j], j])[0, 1] > 0.999


def lower(tree: Path) -> Path:
    """The tree with all names in lower case, big-endian."""
    copy = tree.with_name("lower")
    for file in tree.rglob("*.WAV"):
        to = copy / str(file.relative_to(tree)).lower()
        write_sphere(to, sample(file.parent.name, file.stem), "10")
        to.with_suffix(".phn").write_text(LABELS)
    return copy


def riff(tree: Path) -> Path:
    """The tree with RIFF files beside SPHERE files that are useless."""
    for file in tree.rglob("*.WAV"):
        write_riff(file.with_name(f"{file.name}.wav"), sample(file.parent.name, file.stem))
        file.write_bytes(b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n")
    return tree


@pytest.mark.parametrize("other", [lower, riff])
def test_copies_in_lower_case_or_as_riff_are_the_same(tree: Path, fresh: Path, other: object) -> None:
    assert callable(other)
    expected = splits(tree)
    shutil.rmtree(fresh)
    forget()
    assert identical(splits(other(tree)), expected)


def test_an_incomplete_copy_is_used_with_a_warning(tree: Path) -> None:
    with pytest.warns(UserWarning) as caught:
        Timit(path=str(tree)).splits()
    assert str(caught[0].message) == f"{tree}: {LINE}; results are not those of TIMIT"


@pytest.mark.parametrize("gone", ["TEST/DR1/FAKS0", "TRAIN"])
def test_a_copy_without_speakers_for_a_split_is_refused(tree: Path, gone: str) -> None:
    shutil.rmtree(tree / gone)
    with pytest.raises(DataError) as caught:
        Timit(path=str(tree)).splits()
    assert "(0 of " in str(caught.value)
    assert str(caught.value).endswith("; expected TRAIN/DR1/FCJF0/SI1027.WAV, .PHN and so on")
    assert "\n" not in str(caught.value)


def test_a_complete_copy_is_no_warning_and_one_sentence_less_is(tmp_path: Path) -> None:
    speakers = {
        "TRAIN": [f"F{n:03d}0" for n in range(462)],
        "TEST": [name.upper() for name in (*VALIDATION, *CORE_TEST)],
    }
    for half, names in speakers.items():
        for name in names:
            folder = tmp_path / half / "DR1" / name
            folder.mkdir(parents=True)
            for n in range(8):
                (folder / f"SX{n}.WAV").touch()
                (folder / f"SX{n}.PHN").write_text("0 1600 h#\n")
    task = Timit(path=str(tmp_path))
    whole = task.checksum()
    (tmp_path / "TEST" / "DR1" / "MDAB0" / "SX3.PHN").unlink()
    forget()
    with pytest.warns(UserWarning, match=r"24 of 24 core test speakers \(191 of 192 sentences\); results are not"):
        assert task.checksum() != whole


def refused(tree: Path) -> str:
    forget()
    with pytest.raises(DataError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        Timit(path=str(tree)).splits()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_damaged_files_are_named_in_one_line(tree: Path) -> None:
    assert (
        refused(tree / "no") == f"{tree / 'no'}: cannot be read (No such file or directory); expected a folder of TIMIT"
    )
    label = tree / "TEST" / "DR2" / "MTAS1" / "SX37.PHN"
    for content, says in {
        "0 1600 h#\n1600 aa\n": ":2: got '1600 aa', expected START END PHONE",
        "0 1600 h#\n1600 4000 xx\n": ":2: 'xx' is none of the 61 labels of TIMIT",
        "1600 4000 aa\n0 1600 h#\n": ": its times do not rise",
        "1600 0 aa\n": ": its times do not rise",
        "": ": its times do not rise",
    }.items():
        label.write_text(content)
        assert refused(tree) == f"{label}{says}"
    label.write_text("9000 9600 h#\n")
    assert refused(tree) == f"{label.with_suffix('.WAV')}: none of its 48 frames lies in a labelled segment"
    label.write_text(LABELS)
    label.with_suffix(".WAV").unlink()
    assert refused(tree) == f"{label}: has no sound beside it; expected SX37.WAV"


def test_the_checksum_changes_with_labels_and_sounds_but_not_with_the_place(tree: Path) -> None:
    def checksum(where: Path) -> str:
        forget()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return Timit(path=str(where)).checksum()

    first = checksum(tree)
    moved = tree.rename(tree.with_name("elsewhere"))
    assert checksum(moved) == first
    label = moved / "TRAIN" / "DR1" / "FCJF0" / "SX37.PHN"
    label.write_text(LABELS.replace("ao", "ae"))
    second = checksum(moved)
    write_sphere(label.with_suffix(".WAV"), noise(0.6))
    assert len({first, second, checksum(moved)}) == 3


def test_sounds_are_read_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = splits(tree)
    forget()
    monkeypatch.setattr(audio, "read_sound", lambda path: pytest.fail("was read again"))
    assert identical(first, splits(tree))


def test_options_and_shape() -> None:
    task = Timit(path="timit")
    assert (task.shape.n_inputs, task.shape.n_outputs, task.delay) == (39, 39, 5)
    assert task.label == "timit timit"
    for delay in (-1, 21):
        with pytest.raises(ValidationError):
            Timit(path="timit", delay=delay)
