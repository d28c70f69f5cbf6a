"""Speech Commands, on small folders of its layout: splits by the lists, classes, lengths, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from pydantic import ValidationError

from codesign.errors import InputError
from codesign.tasks import Sequences, Splits, audio, speech_commands
from codesign.tasks.classification import scaled, stacked
from codesign.tasks.speech_commands import SpeechCommands
from tests.sounds import noise, write_riff

pytest.importorskip("soundfile", reason="needs the extra `audio`")
pytest.importorskip("kaldi_native_fbank", reason="needs the extra `audio`")

WORDS = ("bed", "no", "up", "yes")
SPEAKERS = [f"{n:08x}" for n in range(10)]
VALIDATION, TEST = SPEAKERS[6:8], SPEAKERS[8:]
SECONDS = {"bed": 1.0, "no": 0.4, "up": 1.3, "yes": 1.0}
FRAMES = {"bed": 98, "no": 38, "up": 98, "yes": 98}


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No features are kept from elsewhere, on disk or in memory."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    forget()
    yield tmp_path / "cache"
    forget()


def forget() -> None:
    speech_commands._clips.cache_clear()
    speech_commands._splits.cache_clear()


def clip(word: str, speaker: str) -> np.ndarray:
    return noise(SECONDS[word], seed=100 * WORDS.index(word) + int(speaker, 16))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four words by ten speakers: six train, two are validation, two test."""
    root = tmp_path / "speech_commands"
    for word in WORDS:
        for speaker in SPEAKERS:
            write_riff(root / word / f"{speaker}_nohash_0.wav", clip(word, speaker))
    write_riff(root / "_background_noise_" / "running_tap.wav", noise(3.0))
    (root / "LICENSE").write_text("CC BY 4.0")
    for name, speakers in (("validation_list.txt", VALIDATION), ("testing_list.txt", TEST)):
        (root / name).write_text("".join(f"{word}/{who}_nohash_0.wav\n" for word in WORDS for who in speakers))
    return root


def parts(splits: Splits) -> tuple[Sequences, Sequences, Sequences]:
    return splits.train, splits.validation, splits.test


def classes(part: Sequences) -> list[int]:
    """Class of each sequence, which is due at its last real step alone."""
    assert part.lengths is not None
    for y, mask, length in zip(part.y, part.mask, part.lengths, strict=True):
        assert np.flatnonzero(mask).tolist() == [length - 1]
        assert not np.delete(y, length - 1).any()
    return [int(y[length - 1]) for y, length in zip(part.y, part.lengths, strict=True)]


def test_every_folder_is_a_class_and_the_lists_are_the_splits(corpus: Path) -> None:
    task = SpeechCommands(path=str(corpus))
    assert task.classes == WORDS
    assert (task.shape.n_inputs, task.shape.n_outputs) == (39, 4)
    for part, n_speakers in zip(parts(task.splits()), (6, 2, 2), strict=True):
        assert classes(part) == [word for word in range(4) for _ in range(n_speakers)]


def test_no_clip_is_in_two_splits_and_none_is_lost(corpus: Path) -> None:
    clips = [x.tobytes() for part in parts(SpeechCommands(path=str(corpus)).splits()) for x in part.x]
    assert len(clips) == len(set(clips)) == 40


def test_short_clips_are_short_sequences_and_long_ones_are_cut_at_a_second(corpus: Path) -> None:
    for part in parts(SpeechCommands(path=str(corpus)).splits()):
        assert part.lengths is not None
        assert part.x.shape[1:] == (98, 39)
        assert part.lengths.tolist() == [FRAMES[WORDS[c]] for c in classes(part)]
        for x, length in zip(part.x, part.lengths, strict=True):
            assert x[:length].any(1).all()
            assert not x[length:].any()


def test_features_are_int8_scaled_over_the_training_clips(corpus: Path) -> None:
    def features(speakers: list[str]) -> list[np.ndarray]:
        one_second = [clip(word, who)[:16_000] / np.float32(32768) for word in WORDS for who in speakers]
        return [audio.with_differences(audio.cepstra(audio.Sound(samples, 16_000))) for samples in one_second]

    (train, lengths), (test, _) = stacked(features(SPEAKERS[:6])), stacked(features(TEST))
    expected = scaled(train, test, real=np.arange(98) < lengths[:, None])
    splits = SpeechCommands(path=str(corpus)).splits()
    assert splits.test.x.dtype == np.int8
    for part, wanted in ((splits.train, expected[0]), (splits.test, expected[1])):
        off = np.abs(part.x / 128.0 - wanted) * part.real[..., None]
        assert off.max() <= 0.5 / 128 + 1e-5


def test_chosen_words_and_as_many_others_as_one_of_them(corpus: Path) -> None:
    everything = SpeechCommands(path=str(corpus)).splits()
    task = SpeechCommands(path=str(corpus), words=("yes", "bed"))
    assert task.classes == ("yes", "bed", "_unknown_")
    assert task.shape.n_outputs == 3
    for part, whole, n_speakers in zip(parts(task.splits()), parts(everything), (6, 2, 2), strict=True):
        assert np.bincount(classes(part)).tolist() == [n_speakers] * 3
        word = {x.tobytes(): WORDS[c] for x, c in zip(whole.x, classes(whole), strict=True)}
        said = [word[x.tobytes()] for x in part.x]
        for name, c in zip(said, classes(part), strict=True):
            assert c == {"yes": 0, "bed": 1, "no": 2, "up": 2}[name]


def test_the_others_are_the_same_at_every_run_and_of_several_words(corpus: Path) -> None:
    task = SpeechCommands(path=str(corpus), words=("yes",))
    first = task.splits()
    forget()
    again = task.splits()
    for one, two in zip(parts(first), parts(again), strict=True):
        np.testing.assert_array_equal(one.x, two.x)
    others = first.train.lengths[np.array(classes(first.train)) == 1]
    assert len(others) == 6
    assert len(set(others.tolist())) > 1


def test_sounds_are_read_once_whatever_the_words(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SpeechCommands(path=str(corpus)).splits()
    forget()
    monkeypatch.setattr(audio, "read_sound", lambda path: pytest.fail("was read again"))
    SpeechCommands(path=str(corpus), words=("no",)).splits()


def refused(root: Path, *words: str) -> str:
    forget()
    with pytest.raises(InputError) as caught:
        SpeechCommands(path=str(root), words=words).splits()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wrong_words_are_refused_in_one_line(corpus: Path) -> None:
    assert refused(corpus, "yess") == "task.words: unknown word 'yess'; did you mean 'yes'? Known: bed, no, up, yes"
    all_of_them = "task.words: names all 4 words, which leaves none for _unknown_; leave it out"
    assert refused(corpus, *WORDS) == all_of_them
    with pytest.raises(ValidationError, match="names a word twice"):
        SpeechCommands(path="x", words=("yes", "yes"))


def test_missing_and_doubled_files_are_named_in_one_line(corpus: Path) -> None:
    validation, testing = corpus / "validation_list.txt", corpus / "testing_list.txt"
    text = testing.read_text()
    testing.write_text(text + "no/00000006_nohash_0.wav\n")
    says = "names no/00000006_nohash_0.wav, which validation_list.txt names too"
    assert refused(corpus) == f"{testing}: {says}"
    testing.write_text(text + "no/0000000f_nohash_0.wav\n")
    assert refused(corpus) == f"{testing}: names no/0000000f_nohash_0.wav, which is missing (1 of 9 are)"
    testing.write_text("")
    counts = "has 32 + 8 + 0 clips for training, validation and test"
    assert refused(corpus) == f"{corpus}: {counts}; expected WORD/NAME.wav in each"
    validation.unlink()
    says = "is missing; expected the lists of Speech Commands beside the word folders"
    assert refused(corpus) == f"{validation}: {says}"
    assert refused(corpus / "no such") == f"{corpus / 'no such' / 'validation_list.txt'}: {says}"


def test_a_split_without_the_chosen_words_is_refused(corpus: Path) -> None:
    (corpus / "testing_list.txt").write_text("bed/00000008_nohash_0.wav\n")
    assert refused(corpus, "yes", "no") == f"{corpus}: has no clip of yes, no in one of the three splits"


def test_a_damaged_clip_is_named(corpus: Path) -> None:
    file = corpus / "up" / "00000003_nohash_0.wav"
    file.write_bytes(b"no sound")
    assert refused(corpus).startswith(f"{file}: cannot be read as sound (")


def test_the_checksum_changes_with_clips_and_lists_but_not_with_words(corpus: Path) -> None:
    def checksum(*words: str) -> str:
        forget()
        return SpeechCommands(path=str(corpus), words=words).checksum()

    first = checksum()
    assert checksum("yes") == first
    testing = corpus / "testing_list.txt"
    testing.write_text(testing.read_text().replace("up/00000008_nohash_0.wav\n", ""))
    second = checksum()
    write_riff(corpus / "no" / "00000001_nohash_0.wav", noise(0.5))
    assert len({first, second, checksum()}) == 3


def test_the_checksum_tells_the_splits_apart_even_if_the_order_of_the_clips_is_the_same(corpus: Path) -> None:
    bed, no, up = (f"{word}/00000008_nohash_0.wav" for word in ("bed", "no", "up"))
    checksums = set()
    for validation, testing in (([bed], [no, up]), ([bed, no], [up])):
        (corpus / "validation_list.txt").write_text("\n".join(validation))
        (corpus / "testing_list.txt").write_text("\n".join(testing))
        forget()
        checksums.add(SpeechCommands(path=str(corpus)).checksum())
    assert len(checksums) == 2
