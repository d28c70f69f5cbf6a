"""What a task is: labelled sequences in three splits, and how predictions are scored."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Sequences:
    """Sequences padded to one length.

    Attributes:
        x: (n, time, inputs) float32 features within [-1, 1).
        y: (n, time) int32 class of each step.
        mask: (n, time) float32, 1 where the step counts in loss and metrics, 0 in padding.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int32]
    mask: NDArray[np.float32]

    def chunks(self, length: int) -> "Sequences":
        """The same steps cut into pieces of `length`; pieces without a counted step are left out."""
        short = -self.mask.shape[1] % length
        used = np.pad(self.mask, [(0, 0), (0, short)]).reshape(-1, length).any(axis=1)

        def cut(a: NDArray[Number]) -> NDArray[Number]:
            padded = np.pad(a, [(0, 0), (0, short)] + [(0, 0)] * (a.ndim - 2))
            return padded.reshape(-1, length, *a.shape[2:])[used]

        return Sequences(cut(self.x), cut(self.y), cut(self.mask))


@dataclass(frozen=True)
class Splits:
    """Training, validation and test sequences; the search never sees the last."""

    train: Sequences
    validation: Sequences
    test: Sequences


class Task(ABC):
    """A sequence task. Its data are read when `splits` is called, not before.

    Attributes:
        name: as in search spaces.
        subsets: names of the parts of its data, the default first.
        n_inputs, n_outputs: features and classes of a step.
        summary: one line: what is classified, from what, and how much of it.
        metric: what `error` means here.
        source, licence: of the data.
    """

    name: str
    subsets: tuple[str, ...]
    n_inputs: int
    n_outputs: int
    summary: str
    metric: str
    source: str
    licence: str

    @abstractmethod
    def splits(self, subset: str) -> Splits:
        """The data of a subset. Raises DataError if they are missing or damaged."""

    @abstractmethod
    def checksum(self, subset: str) -> str:
        """Digits that change whenever the data change."""

    @abstractmethod
    def score(self, log_probabilities: NDArray[np.float32], truth: Sequences, train: Sequences) -> dict[str, float]:
        """Metrics of class scores (n, time, outputs): `error`, the share of wrong steps, and others."""

    @abstractmethod
    def trivial_error(self, train: Sequences, truth: Sequences) -> float:
        """Error of the best answer that ignores the input."""
