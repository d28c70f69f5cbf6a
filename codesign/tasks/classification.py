"""One label for a whole sequence, due at its last step."""

from abc import ABC
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.tasks.task import Answers, Metric, Sequences, Task, Training

SEQUENCE_ERROR = Metric("share of wrong sequences", "%", 100.0, 1)


class ClassificationTask(Task, ABC):
    """A class for every sequence; only the last real step of each counts."""

    training: ClassVar[Training] = "whole"

    @property
    def metric(self) -> Metric:
        """Share of wrong sequences."""
        return SEQUENCE_ERROR

    def score(self, answers: Answers, truth: Sequences, train: Sequences) -> dict[str, float]:
        """Share of sequences with a wrong class, plain and as the mean over true classes."""
        counted = truth.mask > 0
        wrong, label = (answers.best != truth.y)[counted], truth.y[counted]
        by_class = [wrong[label == c].mean() for c in np.unique(label)]
        return {"error": float(wrong.mean()), "error_mean_of_classes": float(np.mean(by_class))}

    def trivial_error(self, train: Sequences, truth: Sequences) -> float:
        """Always the most frequent class of the training sequences."""
        most = np.bincount(train.y[train.mask > 0]).argmax()
        return float((truth.y[truth.mask > 0] != most).mean())


def labelled(x: NDArray[Any], label: NDArray[np.integer[Any]], lengths: NDArray[np.int64] | None = None) -> Sequences:
    """Sequences (n, time, inputs) with one class each, due at the last of their `lengths` steps."""
    n, time = x.shape[:2]
    steps = np.full(n, time, np.int64) if lengths is None else np.asarray(lengths, np.int64)
    mask = np.arange(time) == steps[:, None] - 1
    return Sequences(x, (mask * label[:, None]).astype(np.int32), mask, steps)


def stacked(series: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Arrays (time, inputs) of different length as one, zeros behind, and their lengths.

    Example:
        >>> x, lengths = stacked([np.ones((2, 1)), np.ones((3, 1))])
        >>> x[0, :, 0].tolist(), lengths.tolist()
        ([1.0, 1.0, 0.0], [2, 3])
    """
    lengths = np.array([len(one) for one in series], np.int64)
    x = np.zeros((len(series), int(lengths.max()), *series[0].shape[1:]), series[0].dtype)
    for row, one in enumerate(series):
        x[row, : len(one)] = one
    return x, lengths


def scaled(
    train: NDArray[Any], *others: NDArray[Any], real: NDArray[np.bool_] | None = None
) -> list[NDArray[np.float32]]:
    """Features within [-1, 1): mean and deviation of each input over `train`, four deviations fill the range.

    Args:
        train: (n, time, inputs).
        others: further splits, scaled alike.
        real: (n, time) steps of `train` that are no padding.
    """
    flat = train[real] if real is not None else train.reshape(-1, train.shape[-1])
    mean, deviation = flat.mean(0), np.maximum(flat.std(0), 1e-6)
    return [
        np.clip((part - mean) / (4.0 * deviation), -1.0, 1.0 - 2.0**-7).astype(np.float32) for part in (train, *others)
    ]
