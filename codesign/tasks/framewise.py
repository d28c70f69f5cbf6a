"""Framewise recognition of phones: frame error, and phone error rate after a frame Viterbi."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.tasks.task import Answers, Metric, Sequences, Task
from codesign.tasks.viterbi import best_paths, collapse, edit_distance, transition_model

FRAME_ERROR = Metric("share of wrong frames", "%", 100.0, 1)
Utterance = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_]]
"""Features (frames, inputs), class of each frame, and which frames count."""


class PhoneTask(Task, ABC):
    """A phone for every frame of speech."""

    decodes: ClassVar[bool] = True

    @property
    @abstractmethod
    def pause(self) -> int:
        """The class that is silence."""

    @property
    def metric(self) -> Metric:
        """Share of wrong frames."""
        return FRAME_ERROR

    def score(self, answers: Answers, truth: Sequences, train: Sequences) -> dict[str, float]:
        """Frame error with and without pauses, and phone error rate after a frame Viterbi.

        The decoder's priors and transitions are counted on the training labels; a pause is a phone
        like any other in the phone error rate.
        """
        assert answers.log_probabilities is not None
        counted = truth.mask > 0
        wrong = answers.best != truth.y
        labels = [y[m] for y, m in zip(truth.y, counted, strict=True)]
        known = [y[m > 0] for y, m in zip(train.y, train.mask, strict=True)]
        prior, transition = transition_model(known, self.shape.n_outputs)
        heard = [scores[m] for scores, m in zip(answers.log_probabilities, counted, strict=True)]
        paths = best_paths(_padded(heard), counted.sum(1), prior, transition)
        pairs = [(collapse(path), collapse(label)) for path, label in zip(paths, labels, strict=True)]
        return {
            "error": float(wrong[counted].mean()),
            "error_without_pauses": float(wrong[counted & (truth.y != self.pause)].mean()),
            "phone_error_rate": sum(edit_distance(found, said) for found, said in pairs)
            / sum(len(said) for _, said in pairs),
        }

    def trivial_error(self, train: Sequences, truth: Sequences) -> float:
        """Always the most frequent class of the training frames."""
        most = np.bincount(train.y[train.mask > 0]).argmax()
        return float((truth.y[truth.mask > 0] != most).mean())


def delayed(utterances: list[Utterance], delay: int) -> Sequences:
    """Utterances with their labels `delay` frames late; zeros (the mean) follow the last frame."""
    time = max(len(y) for _, y, _ in utterances) + delay
    x = np.zeros((len(utterances), time, utterances[0][0].shape[1]), np.float32)
    y, mask = np.zeros(x.shape[:2], np.int32), np.zeros(x.shape[:2], np.float32)
    for row, (features, phone, counts) in enumerate(utterances):
        x[row, : len(features)] = features
        y[row, delay : delay + len(phone)] = phone
        mask[row, delay : delay + len(phone)] = counts
    return Sequences(x, y, mask)


def _padded(heard: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    scores = np.zeros((len(heard), max(map(len, heard)), heard[0].shape[1]))
    for row, part in enumerate(heard):
        scores[row, : len(part)] = part
    return scores
