"""Framewise phones of the user's own speech: sound files beside label files.

Two kinds of label file are read, told apart by their content:

- ESPS xwaves, as Festival writes it: a header that ends in a line `#`, then `END_SECONDS COLOUR PHONE`.
- HTK: `START END PHONE` in units of 100 ns, what follows the phone is passed over.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from codesign.design import TaskShape
from codesign.errors import DataError, InputError, unknown
from codesign.tasks import audio
from codesign.tasks.feature_cache import Arrays, cached
from codesign.tasks.framewise import PhoneTask, Utterance, delayed
from codesign.tasks.task import Splits

SOUNDS = (".wav", ".flac")
HTK_UNITS_A_SECOND = 10_000_000


class Labels(PhoneTask):
    """Speech of the user's own with a phone label for every segment.

    Attributes:
        path: a folder with the folders `wav` and `lab`, or with sounds and labels side by side; a label
            file NAME.lab belongs to NAME.wav or NAME.flac. Sounds without labels are passed over.
        silence: the label of silence.
        split: shares of the utterances, in the order of their names, that are training, validation and test.
        delay: frames of 10 ms between a frame and the answer for it.
    """

    reader: Literal["labels"] = "labels"
    path: str
    silence: str = "pau"
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    delay: int = Field(default=5, ge=0, le=20)
    summary: ClassVar[str] = "phone of each 10 ms frame of labelled speech (Festival or HTK), 39 MFCC features"
    source: ClassVar[str] = "your own data"
    licence: ClassVar[str] = "yours"

    @field_validator("split")
    @classmethod
    def _shares(cls, split: tuple[float, float, float]) -> tuple[float, float, float]:
        if not (min(split) > 0.0 and abs(sum(split) - 1.0) <= 1e-6):
            raise ValueError("must be three shares above 0 whose sum is 1")
        return split

    @property
    def pause(self) -> int:
        """Class of `silence`. Raises InputError if no label is called so."""
        phones = _corpus(self.path).phones
        if self.silence not in phones:
            raise InputError(f"task.silence: {unknown('label', self.silence, phones)}")
        return phones.index(self.silence)

    @property
    def shape(self) -> TaskShape:
        """39 features, a class for every label that occurs."""
        return TaskShape(audio.N_FEATURES, len(_corpus(self.path).phones))

    def splits(self) -> Splits:
        """Utterances in the order of their names; frames outside all segments do not count.

        Raises:
            DataError: if sounds or labels are missing or damaged, or too few for three parts.
            InputError: if no label is called `silence`.
        """
        return _splits(self)

    def checksum(self) -> str:
        """Over the names and sizes of the sounds and the contents of the label files."""
        return _corpus(self.path).checksum


@dataclass(frozen=True)
class Segments:
    """Labelled stretches of an utterance in the order of time.

    Attributes:
        starts_s, ends_s: (n_segments,); where two overlap, the later one holds.
        phones: label of each.
    """

    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    phones: Sequence[str]


def read_segments(path: Path) -> Segments:
    """A label file in either format.

    Raises:
        DataError: if it is missing or damaged, with the number of the line.
    """
    lines = [line.strip() for line in read_lines(path)]
    xwaves = "#" in lines
    begin = lines.index("#") + 1 if xwaves else 0
    expected = "END_SECONDS COLOUR PHONE" if xwaves else "START END PHONE in units of 100 ns"
    rows: list[tuple[float, float, str]] = []
    earliest_s = 0.0
    for number, line in enumerate(lines[begin:], begin + 1):
        if not line:
            continue
        try:
            first, second, phone = line.split()[:3]
            start_s = earliest_s if xwaves else int(first) / HTK_UNITS_A_SECOND
            end_s = float(first) if xwaves else int(second) / HTK_UNITS_A_SECOND
        except ValueError:
            raise DataError(f"{path}:{number}: got {line!r}, expected {expected}") from None
        if not earliest_s <= start_s <= end_s < np.inf:
            raise DataError(f"{path}:{number}: got {line!r}, expected times that rise")
        rows.append((start_s, end_s, phone))
        earliest_s = end_s if xwaves else start_s
    if not rows:
        raise DataError(f"{path}: has no labels, expected lines {expected}")
    starts, ends, phones = zip(*rows, strict=True)
    return Segments(np.array(starts), np.array(ends), phones)


def read_lines(path: Path) -> list[str]:
    """Lines of a small UTF-8 file. Raises DataError if it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is no UTF-8 text") from None


def utterances(
    reader: str,
    made_from: tuple[str | int, ...],
    recordings: Sequence[tuple[Path, Segments]],
    n_train: int,
    classes: Mapping[str, int],
) -> list[Utterance]:
    """Features and the class of every frame; a frame has the label at its centre.

    Args:
        reader, made_from: names the features in the cache (`feature_cache.cached`).
        recordings: sound and labels of each utterance, the training ones first.
        n_train: utterances that define the scale: four standard deviations fill [-1, 1).
        classes: number of each phone; frames of other phones and of none do not count.

    Raises:
        DataError: if a sound cannot be used, or none of its frames is labelled.
    """

    def make() -> Arrays:
        cepstra, phones, counted = [], [], []
        sounds = audio.sounds(path for path, _ in recordings)
        for (path, segments), sound in zip(recordings, sounds, strict=True):
            cepstra.append(audio.cepstra(sound))
            phone, counts = _frame_labels(segments, audio.centres_s(len(cepstra[-1]), sound.rate_hz), classes)
            if not counts.any():
                raise DataError(f"{path}: none of its {len(counts)} frames lies in a labelled segment")
            phones.append(phone)
            counted.append(counts)
        scaling = audio.Scaling.of(map(audio.with_differences, cepstra[:n_train]))
        return {
            "levels": np.concatenate([scaling.levels(audio.with_differences(one)) for one in cepstra]),
            "phone": np.concatenate(phones),
            "counts": np.concatenate(counted),
            "ends": np.cumsum([len(one) for one in cepstra]),
        }

    kept = cached(reader, (audio.RECIPE, n_train, *made_from), make)
    features = kept["levels"].astype(np.float32) / np.float32(audio.INT8_UNITS)
    parts = (np.split(array, kept["ends"][:-1]) for array in (features, kept["phone"], kept["counts"]))
    return list(zip(*parts, strict=True))


def _frame_labels(
    segments: Segments, centres_s: NDArray[np.float64], classes: Mapping[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    number = np.array([classes.get(phone, -1) for phone in segments.phones], np.int32)
    segment = np.searchsorted(segments.starts_s, centres_s, side="right") - 1
    phone = number[segment]
    counts = (segment >= 0) & (centres_s < segments.ends_s[segment]) & (phone >= 0)
    return np.where(counts, phone, 0).astype(np.int32), counts


@dataclass(frozen=True)
class _Corpus:
    recordings: list[tuple[Path, Segments]]
    phones: tuple[str, ...]
    checksum: str


@lru_cache(maxsize=2)
def _corpus(path: str) -> _Corpus:
    """Sounds and labels by name, and every label that occurs, sorted."""
    root = Path(path)
    sounds, labels = _files(root, "wav", SOUNDS), _files(root, "lab", (".lab",))
    if not labels:
        raise DataError(f"{path}: has no label files; expected wav/NAME.wav and lab/NAME.lab, or both side by side")
    recordings, digest = [], hashlib.sha256()
    for name, label in sorted(labels.items()):
        if name not in sounds:
            raise DataError(f"{label}: has no sound; expected {name}.wav or {name}.flac")
        recordings.append((sounds[name], read_segments(label)))
        digest.update(f"{name} {sounds[name].stat().st_size}\n".encode() + label.read_bytes())
    phones = sorted({phone for _, segments in recordings for phone in segments.phones})
    return _Corpus(recordings, tuple(phones), digest.hexdigest())


def _files(root: Path, inner: str, endings: Sequence[str]) -> dict[str, Path]:
    """Files with one of the endings by name without it, in the folder `inner` if there is one."""
    folder = root / inner if (root / inner).is_dir() else root
    if not folder.is_dir():
        raise DataError(f"{root}: is no folder; expected one with sounds and label files")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in endings}


@lru_cache(maxsize=1)
def _splits(task: Labels) -> Splits:
    corpus, _ = _corpus(task.path), task.pause
    n = len(corpus.recordings)
    cuts = [0, *(round(n * share) for share in np.cumsum(task.split[:2])), n]
    if not all(a < b for a, b in pairwise(cuts)):
        raise DataError(f"{task.path}: has {n} labelled utterances, too few for the shares {task.split}")
    classes = {phone: i for i, phone in enumerate(corpus.phones)}
    spoken = utterances("labels", (corpus.checksum,), corpus.recordings, cuts[1], classes)
    return Splits(*(delayed(spoken[a:b], task.delay) for a, b in pairwise(cuts)))
