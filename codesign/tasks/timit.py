"""Framewise phones of TIMIT, from the user's copy.

462 speakers of American English train, 8 sentences each (the two `SA` sentences that all speakers read are
left out); 50 speakers of the test half are validation, the 24 of the core test set are the test. The 61
labels are folded to the 39 of Lee and Hon (IEEE Trans. ASSP 37(11), 1989), for training as for scoring;
frames of the glottal stop `q`, which has no class among them, do not count.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks import audio
from codesign.tasks.framewise import PhoneTask, delayed
from codesign.tasks.labels import Segments, read_lines, utterances
from codesign.tasks.task import Splits

FOLDED = {
    "aa": "aa ao",
    "ah": "ah ax ax-h",
    "er": "er axr",
    "hh": "hh hv",
    "ih": "ih ix",
    "l": "l el",
    "m": "m em",
    "n": "n en nx",
    "ng": "ng eng",
    "sh": "sh zh",
    "uw": "uw ux",
    "sil": "h# pau epi bcl dcl gcl pcl tcl kcl",
}
"""Labels of TIMIT that share a class, by its name."""

UNFOLDED = "ae aw ay b ch d dh dx eh ey f g iy jh k ow oy p r s t th uh v w y z"
"""Labels that are a class of their own."""

PHONES = sorted([*FOLDED, *UNFOLDED.split()])
CLASSES = {label: PHONES.index(phone) for phone in PHONES for label in FOLDED.get(phone, phone).split()}
GLOTTAL_STOP = "q"
RATE_HZ = 16_000  # label files count samples of the original recordings
SENTENCES_A_SPEAKER = 8
N_TRAIN_SPEAKERS = 462

VALIDATION = tuple(
    """
    faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0
    mrtk0 mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4
    fcal1 mmwh0 fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1
    """.split()
)
"""Speakers of the usual development set (Kaldi, egs/timit)."""

CORE_TEST = tuple(
    """
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0
    mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0
    """.split()
)
"""Speakers of the core test set (the corpus' own testset.doc): two men and a woman of each dialect region."""


class Timit(PhoneTask):
    """The corpus most framewise results are known for.

    Attributes:
        path: the folder with TRAIN and TEST, in upper or lower case; sound as SPHERE or RIFF (`.WAV` or `.WAV.wav`).
        delay: frames of 10 ms between a frame and the answer for it.
    """

    reader: Literal["timit"] = "timit"
    path: str
    delay: int = Field(default=5, ge=0, le=20)
    summary: ClassVar[str] = "one of 39 phones for each 10 ms frame of read English, 39 MFCC features (TIMIT)"
    source: ClassVar[str] = "your own copy of TIMIT"
    licence: ClassVar[str] = "yours"
    citation: ClassVar[str] = "J. S. Garofolo et al., TIMIT Acoustic-Phonetic Continuous Speech Corpus, LDC93S1, 1993"

    @property
    def shape(self) -> TaskShape:
        """39 features, 39 phones."""
        return TaskShape(audio.N_FEATURES, len(PHONES))

    @property
    def pause(self) -> int:
        """The class "sil"."""
        return PHONES.index("sil")

    def splits(self) -> Splits:
        """Sentences of 462, 50 and 24 speakers; a copy that lacks some of them is used with a warning.

        Raises:
            DataError: if one of the three has no speaker, or a file is missing or damaged.
        """
        return _splits(self)

    def checksum(self) -> str:
        """Over the names and sizes of the sounds and the contents of the label files."""
        return _corpus(self.path).checksum


@dataclass(frozen=True)
class _Corpus:
    recordings: list[tuple[Path, Segments]]
    cuts: tuple[int, int, int, int]
    checksum: str


@lru_cache(maxsize=1)
def _splits(task: Timit) -> Splits:
    corpus = _corpus(task.path)
    spoken = utterances("timit", (corpus.checksum,), corpus.recordings, corpus.cuts[1], CLASSES)
    return Splits(*(delayed(spoken[a:b], task.delay) for a, b in pairwise(corpus.cuts)))


@lru_cache(maxsize=2)
def _corpus(path: str) -> _Corpus:
    """Sentences of the training, validation and test speakers, in this order, and where each part begins."""
    train, held_out = (_speakers(Path(path), half) for half in ("train", "test"))
    known = [{name: held_out[name] for name in names if name in held_out} for names in (VALIDATION, CORE_TEST)]
    parts = [train, *known]
    sentences = [[sentence for folder in part.values() for sentence in _sentences(folder)] for part in parts]
    _complete(path, parts, [len(part) for part in sentences])
    digest = hashlib.sha256()
    recordings = []
    for sound, label in (sentence for part in sentences for sentence in part):
        recordings.append((sound, _segments(label)))
        name = f"{label.parent.name}/{label.stem}".lower()
        digest.update(f"{name} {sound.stat().st_size}\n".encode() + label.read_bytes())
    first, second, third = (int(end) for end in np.cumsum([len(part) for part in sentences]))
    return _Corpus(recordings, (0, first, second, third), digest.hexdigest())


def _complete(path: str, parts: list[dict[str, Path]], n_sentences: list[int]) -> None:
    """Refuse a copy without training, validation or test speakers, warn of one that lacks some."""
    wanted = (N_TRAIN_SPEAKERS, len(VALIDATION), len(CORE_TEST))
    names = ("training", "validation", "core test")
    found = ", ".join(
        f"{len(part)} of {n} {name} speakers ({sentences} of {SENTENCES_A_SPEAKER * n} sentences)"
        for part, n, name, sentences in zip(parts, wanted, names, n_sentences, strict=True)
    )
    missing = [name for name in (*VALIDATION, *CORE_TEST) if name not in {**parts[1], **parts[2]}]
    line = f"{path}: holds {found}" + (f"; missing first: {', '.join(missing[:3])}" if missing else "")
    if not all(n_sentences):
        raise DataError(f"{line}; expected TRAIN/DR1/FCJF0/SI1027.WAV, .PHN and so on")
    if n_sentences != [SENTENCES_A_SPEAKER * n for n in wanted]:
        warnings.warn(f"{line}; results are not those of TIMIT", stacklevel=2)


def _speakers(root: Path, half: str) -> dict[str, Path]:
    """Folders of the speakers of TRAIN or TEST by name in lower case, sorted by dialect region and name."""
    halves = (folder for folder in _folders(root) if folder.name.lower() == half)
    regions = (folder for part in halves for folder in _folders(part) if folder.name.lower().startswith("dr"))
    return {speaker.name.lower(): speaker for region in regions for speaker in _folders(region)}


def _folders(parent: Path) -> list[Path]:
    try:
        inner = sorted(parent.iterdir())
    except OSError as error:
        raise DataError(f"{parent}: cannot be read ({error.strerror}); expected a folder of TIMIT") from None
    return [path for path in inner if path.is_dir()]


def _sentences(speaker: Path) -> Iterator[tuple[Path, Path]]:
    """Sound and labels of every sentence but the SA ones; RIFF goes before SPHERE where both exist."""
    files: Mapping[str, Path] = {path.name.lower(): path for path in speaker.iterdir()}
    for name in sorted(files):
        if name.endswith(".phn") and not name.startswith("sa"):
            stem = name.removesuffix(".phn")
            sound = files.get(f"{stem}.wav.wav") or files.get(f"{stem}.wav")
            if sound is None:
                raise DataError(f"{files[name]}: has no sound beside it; expected {stem.upper()}.WAV")
            yield sound, files[name]


def _segments(path: Path) -> Segments:
    """A label file: lines `START END PHONE` in samples."""
    rows = [line.split() for line in read_lines(path) if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or not (row[0].isdigit() and row[1].isdigit()):
            raise DataError(f"{path}:{number}: got {' '.join(row)!r}, expected START END PHONE")
        if row[2] not in CLASSES and row[2] != GLOTTAL_STOP:
            raise DataError(f"{path}:{number}: {row[2]!r} is none of the 61 labels of TIMIT")
    starts, ends = (np.array([int(row[column]) for row in rows]) for column in (0, 1))
    if not rows or (ends < starts).any() or (np.diff(starts) < 0).any():
        raise DataError(f"{path}: its times do not rise")
    return Segments(starts / RATE_HZ, ends / RATE_HZ, [row[2] for row in rows])
