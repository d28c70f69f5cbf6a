"""Framewise phone recognition in read Russian speech (shipped with the package).

620 sentences of one speaker, 99.5 minutes, 51 phone classes of which one is the pause; labels are
those of the Debian package festvox-ru, whose boundaries look forced-aligned (they lie on a 10 ms
grid). 39 features every 10 ms: 13 mel-frequency cepstra, their first and second differences. The
answer for a frame is due 5 frames (50 ms) later, so that the network hears what follows.
scripts/make_ru_phones.py made the shipped file.
"""

import hashlib
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError, InputError, unknown
from codesign.tasks.task import Sequences, Splits, Task
from codesign.tasks.viterbi import best_paths, collapse, edit_distance, transition_model

DATA = Path(__file__).parent / "data" / "ru_phones.npz"
SHA256 = "402047c3c98cf3e56c9feecc1a99f221b7744ca873f0579c41b1711a6ff90ef9"
DELAY = 5  # frames between a frame and the answer for it
SPLITS = {
    "full": (range(0, 500), range(500, 560), range(560, 620)),
    "mini": (range(0, 100), range(100, 120), range(120, 150)),
}
PAUSE = 31  # class "pau"
DIFFERENCE_REACH = 2  # frames on either side that a difference looks at
INT8_UNIT = 1.0 / 128.0  # the file's int8 is 32 levels per sigma, so [-1, 1) holds four sigma


class RuPhones(Task):
    """The shipped speech task."""

    name = "ru_phones"
    subsets = ("full", "mini")
    n_inputs = 39
    n_outputs = 51
    summary = "phone of each 10 ms frame of read Russian speech, 39 MFCC features, answer 5 frames later"
    metric = "share of wrong frames"
    source = "Debian package festvox-ru 0.5+dfsg-6 (Nickolay V. Shmyrev, 2005)"
    licence = "BSD-like, see codesign/tasks/data/LICENSE.ru_phones"

    def splits(self, subset: str) -> Splits:
        """Utterances in three disjoint ranges of the corpus order."""
        if subset not in SPLITS:
            raise InputError(f"task {self.name}: {unknown('subset', subset, SPLITS)}")
        cepstra, phone, starts = _corpus()
        train, validation, test = (
            _sequences([(cepstra[starts[u] : starts[u + 1]], phone[starts[u] : starts[u + 1]]) for u in part])
            for part in SPLITS[subset]
        )
        return Splits(train, validation, test)

    def checksum(self, subset: str) -> str:
        """Of the shipped file, which `splits` compares."""
        return SHA256

    def score(self, log_probabilities: NDArray[np.float32], truth: Sequences, train: Sequences) -> dict[str, float]:
        """Frame error with and without pauses, and phone error rate after a frame Viterbi.

        The decoder's priors and transitions are counted on the training labels; a pause is a phone
        like any other in the phone error rate.
        """
        counted = truth.mask > 0
        wrong = log_probabilities.argmax(-1) != truth.y
        speech = counted & (truth.y != PAUSE)
        labels = [y[m > 0] for y, m in zip(truth.y, truth.mask, strict=True)]
        prior, transition = transition_model(
            [y[m > 0] for y, m in zip(train.y, train.mask, strict=True)], self.n_outputs
        )
        # Counted steps follow each other and begin DELAY steps late: the decoder begins there too.
        scores = log_probabilities[:, DELAY:].astype(np.float64)
        paths = best_paths(scores, counted.sum(1), prior, transition)
        pairs = [(collapse(path), collapse(label)) for path, label in zip(paths, labels, strict=True)]
        return {
            "error": float(wrong[counted].mean()),
            "error_without_pauses": float(wrong[speech].mean()),
            "phone_error_rate": sum(edit_distance(found, said) for found, said in pairs)
            / sum(len(said) for _, said in pairs),
        }

    def trivial_error(self, train: Sequences, truth: Sequences) -> float:
        """Always the most frequent phone of the training frames (the pause)."""
        most = np.bincount(train.y[train.mask > 0]).argmax()
        return float((truth.y[truth.mask > 0] != most).mean())


@lru_cache(maxsize=1)
def _corpus() -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]:
    """Features (frames, 39), class of each frame, and where utterances begin (one more than there are)."""
    try:
        content = DATA.read_bytes()
    except OSError as error:
        raise DataError(f"{DATA}: cannot be read ({error.strerror}); install codesign again") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{DATA}: is damaged (its sha256 differs from {SHA256[:12]}...); install codesign again")
    with np.load(DATA, allow_pickle=False) as archive:
        cepstra = archive["cepstra"].astype(np.float32) * INT8_UNIT
        phone, lengths = archive["phone"].astype(np.int32), archive["length"]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    first = np.concatenate([_difference(cepstra[a:b]) for a, b in pairwise(starts)])
    second = np.concatenate([_difference(first[a:b]) for a, b in pairwise(starts)])
    n_train = starts[SPLITS["full"][0].stop]
    sigma = cepstra[:n_train].std(0)
    scaled = [part * (sigma / part[:n_train].std(0)) for part in (first, second)]
    features = np.clip(np.concatenate([cepstra, *scaled], axis=1), -1.0, 1.0 - INT8_UNIT)
    return features.astype(np.float32), phone, starts


def _difference(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Regression slope over 2 * DIFFERENCE_REACH + 1 frames, the ends repeated."""
    n, reach = len(features), DIFFERENCE_REACH
    wide = np.pad(features, [(reach, reach), (0, 0)], mode="edge")
    steps = range(1, reach + 1)
    slope = sum(k * (wide[reach + k :][:n] - wide[reach - k :][:n]) for k in steps)
    return np.asarray(slope / (2.0 * sum(k * k for k in steps)), np.float32)


def _sequences(utterances: list[tuple[NDArray[np.float32], NDArray[np.int32]]]) -> Sequences:
    """Utterances with their labels DELAY frames late; zeros (the mean) follow the last frame."""
    time = max(len(y) for _, y in utterances) + DELAY
    x = np.zeros((len(utterances), time, utterances[0][0].shape[1]), np.float32)
    y, mask = np.zeros(x.shape[:2], np.int32), np.zeros(x.shape[:2], np.float32)
    for row, (features, phone) in enumerate(utterances):
        x[row, : len(features)] = features
        y[row, DELAY : DELAY + len(phone)] = phone
        mask[row, DELAY : DELAY + len(phone)] = 1.0
    return Sequences(x, y, mask)
