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
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.design import TaskShape
from codesign.errors import DataError
from codesign.tasks.audio import differences
from codesign.tasks.framewise import PhoneTask, delayed
from codesign.tasks.task import Sequences, Splits

DATA = Path(__file__).parent / "data" / "ru_phones.npz"
SHA256 = "402047c3c98cf3e56c9feecc1a99f221b7744ca873f0579c41b1711a6ff90ef9"
DELAY = 5  # frames between a frame and the answer for it
SPLITS = {
    "full": (range(0, 500), range(500, 560), range(560, 620)),
    "mini": (range(0, 100), range(100, 120), range(120, 150)),
}
PAUSE = 31  # class "pau"
INT8_UNIT = 1.0 / 128.0  # the file's int8 is 32 levels per sigma, so [-1, 1) holds four sigma


class RuPhones(PhoneTask):
    """The shipped speech task."""

    name: Literal["ru_phones"] = "ru_phones"
    subset: Literal["full", "mini"] = "full"
    summary: ClassVar[str] = "phone of each 10 ms frame of read Russian speech, 39 MFCC features, answer 5 frames later"
    source: ClassVar[str] = "Debian package festvox-ru 0.5+dfsg-6 (Nickolay V. Shmyrev, 2005)"
    licence: ClassVar[str] = "BSD-like, see codesign/tasks/data/LICENSE.ru_phones"
    citation: ClassVar[str] = "N. V. Shmyrev, festvox-ru: a Russian voice for Festival, 2005"

    @property
    def shape(self) -> TaskShape:
        """39 features, 51 phones."""
        return TaskShape(39, 51)

    @classmethod
    def size_bytes(cls) -> int:
        """Of the shipped file."""
        return DATA.stat().st_size

    @property
    def pause(self) -> int:
        """The class "pau"."""
        return PAUSE

    def splits(self) -> Splits:
        """Utterances in three disjoint ranges of the corpus order."""
        cepstra, phone, starts = _corpus()

        def part(utterances: range) -> Sequences:
            cuts = [slice(starts[u], starts[u + 1]) for u in utterances]
            return delayed([(cepstra[cut], phone[cut], np.ones(len(phone[cut]), np.bool_)) for cut in cuts], DELAY)

        return Splits(*map(part, SPLITS[self.subset]))

    def checksum(self) -> str:
        """Of the shipped file, which `splits` compares."""
        return SHA256


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
    first = np.concatenate([differences(cepstra[a:b]) for a, b in pairwise(starts)])
    second = np.concatenate([differences(first[a:b]) for a, b in pairwise(starts)])
    n_train = starts[SPLITS["full"][0].stop]
    sigma = cepstra[:n_train].std(0)
    scaled = [part * (sigma / part[:n_train].std(0)) for part in (first, second)]
    features = np.concatenate([cepstra, *scaled], axis=1, dtype=np.float32)
    np.clip(features, -1.0, 1.0 - INT8_UNIT, out=features)
    return features, phone, starts
