"""Which word is spoken: Speech Commands, from the user's copy, or recordings laid out like it.

Clips are a second long; what is longer is cut there, what is shorter is a shorter sequence. The lists
that come with the corpus keep every speaker in one split.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from codesign.design import TaskShape
from codesign.errors import DataError, InputError, unknown
from codesign.tasks import audio
from codesign.tasks.classification import ClassificationTask, labelled, stacked
from codesign.tasks.feature_cache import Arrays, cached
from codesign.tasks.labels import read_lines
from codesign.tasks.task import Sequences, Splits

LISTS = ("validation_list.txt", "testing_list.txt")
OTHERS = "_unknown_"


class SpeechCommands(ClassificationTask):
    """Single spoken words.

    Attributes:
        path: the folder with the words' folders, `validation_list.txt` and `testing_list.txt`; folders whose
            names begin with `_` (background noise) or `.` are passed over.
        words: the words to tell apart, with one more class for all others, of which every split holds
            as many clips as of a word on average; with none given, every folder is a class.
    """

    reader: Literal["speech_commands"] = "speech_commands"
    path: str
    words: tuple[str, ...] = ()
    summary: ClassVar[str] = "one word for a second of speech, 39 MFCC features each 10 ms (Speech Commands)"
    source: ClassVar[str] = "your own copy of Speech Commands"
    licence: ClassVar[str] = "yours"
    citation: ClassVar[str] = "P. Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, 2018"

    @field_validator("words")
    @classmethod
    def _different(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(words)) < len(words):
            raise ValueError("names a word twice")
        return words

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes. Raises InputError if `words` names one that is not there, or all."""
        known = _clips(self.path).words
        for word in self.words:
            if word not in known:
                raise InputError(f"task.words: {unknown('word', word, known)}")
        if len(self.words) == len(known):
            raise InputError(f"task.words: names all {len(known)} words, which leaves none for {OTHERS}; leave it out")
        return (*self.words, OTHERS) if self.words else known

    @property
    def shape(self) -> TaskShape:
        """39 features, a class for every word."""
        return TaskShape(audio.N_FEATURES, len(self.classes))

    def splits(self) -> Splits:
        """Clips by the lists: what neither names is training.

        Features are int8, scaled over all training clips, whatever `words` says.

        Raises:
            DataError: if a list, a clip or all words are missing, or one is damaged.
            InputError: if `words` does not fit the folders.
        """
        return _splits(self)

    def checksum(self) -> str:
        """Over the names and sizes of all clips and which split each is in."""
        return _clips(self.path).checksum


@dataclass(frozen=True)
class _Clips:
    """All clips, the training ones first, then validation, then test; by name in each.

    Attributes:
        words: folders, sorted.
        names: "word/file.wav".
        cuts: where each split begins, and the end.
    """

    words: tuple[str, ...]
    names: list[str]
    cuts: tuple[int, int, int, int]
    checksum: str


@lru_cache(maxsize=2)
def _clips(path: str) -> _Clips:
    root = Path(path)
    for name in LISTS:
        if not (root / name).is_file():
            raise DataError(f"{root / name}: is missing; expected the lists of Speech Commands beside the word folders")
    held_out = [set(read_lines(root / name)) - {""} for name in LISTS]
    if twice := sorted(held_out[0] & held_out[1]):
        raise DataError(f"{root / LISTS[1]}: names {twice[0]}, which {LISTS[0]} names too")
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and folder.name[0] not in "_.")
    sizes = {
        f"{folder.name}/{clip.name}": clip.stat().st_size
        for folder in folders
        for clip in folder.iterdir()
        if clip.suffix.lower() == ".wav"
    }
    for name, listed in zip(LISTS, held_out, strict=True):
        if missing := sorted(listed - sizes.keys()):
            lost = f"{len(missing)} of {len(listed)}"
            raise DataError(f"{root / name}: names {missing[0]}, which is missing ({lost} are)")
    parts = [sorted(sizes.keys() - held_out[0] - held_out[1]), *map(sorted, held_out)]
    if not all(parts):
        counts = " + ".join(str(len(part)) for part in parts)
        raise DataError(f"{path}: has {counts} clips for training, validation and test; expected WORD/NAME.wav in each")
    lines = "".join(f"{split} {name} {sizes[name]}\n" for split, part in enumerate(parts) for name in part)
    words = tuple(sorted({name.split("/")[0] for name in sizes}))
    first, second, third = (int(end) for end in np.cumsum([len(part) for part in parts]))
    names = [name for part in parts for name in part]
    return _Clips(words, names, (0, first, second, third), hashlib.sha256(lines.encode()).hexdigest())


@lru_cache(maxsize=1)
def _splits(task: SpeechCommands) -> Splits:
    clips, classes = _clips(task.path), task.classes
    kept = cached("speech_commands", (audio.RECIPE, clips.checksum), lambda: _features(Path(task.path), clips))
    word = [name.split("/")[0] for name in clips.names]
    number = np.array([classes.index(one) if one in classes else len(task.words) for one in word])

    def part(begin: int, end: int) -> Sequences:
        rows: Any = slice(begin, end)
        if task.words:
            rows = begin + _with_others(number[begin:end], clips.names[begin:end], len(task.words))
            if not len(rows):
                raise DataError(f"{task.path}: has no clip of {', '.join(task.words)} in one of the three splits")
        return labelled(kept["levels"][rows], number[rows], kept["lengths"][rows])

    return Splits(*(part(begin, end) for begin, end in pairwise(clips.cuts)))


def _with_others(number: NDArray[np.integer[Any]], names: list[str], n_words: int) -> NDArray[np.int64]:
    """Rows of all clips of the words, and of as many others as a word has on average, in the given order.

    Which others is told by the digits of their names, so that they are the same at every run and of all words.
    """
    wanted = np.flatnonzero(number < n_words)
    others = sorted(np.flatnonzero(number == n_words), key=lambda row: hashlib.sha256(names[row].encode()).digest())
    return np.sort(np.concatenate([wanted, np.array(others[: round(len(wanted) / n_words)], np.int64)]))


def _features(root: Path, clips: _Clips) -> Arrays:
    """Of every clip: features (n, time, 39) in units of 1/128, and how many steps are no padding."""
    sounds = audio.sounds(root / name for name in clips.names)
    cepstra = [audio.cepstra(audio.Sound(sound.samples[: sound.rate_hz], sound.rate_hz)) for sound in sounds]
    scaling = audio.Scaling.of(map(audio.with_differences, cepstra[: clips.cuts[1]]))
    levels, lengths = stacked([scaling.levels(audio.with_differences(one)) for one in cepstra])
    return {"levels": levels, "lengths": lengths}
