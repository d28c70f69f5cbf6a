"""Language models: the next symbol of a text, from all symbols before it."""

from abc import ABC
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.tasks.task import Answers, Metric, Sequences, Task, Training

BITS_PER_CHARACTER = Metric("bits per character", "bit/char", 1.0, 3)
PERPLEXITY = Metric("perplexity", "perplexity", 1.0, 1)


class LanguageTask(Task, ABC):
    """The probability of every next symbol; `metric` is bits per character or, for words, the perplexity."""

    training: ClassVar[Training] = "stream"

    def score(self, answers: Answers, truth: Sequences, train: Sequences) -> dict[str, float]:
        """`error` in the metric's unit, and the share of symbols that were not the most probable one."""
        counted = truth.mask > 0
        surprise = float(answers.surprise[counted].mean(dtype=np.float64))
        return {
            "error": self._in_unit(surprise),
            "wrong_symbols": float((answers.best != truth.y)[counted].mean()),
        }

    def trivial_error(self, train: Sequences, truth: Sequences) -> float:
        """Always the share of each symbol in the training text (unigram), add-one smoothed."""
        counts = np.bincount(train.y[train.mask > 0], minlength=self.shape.n_outputs) + 1.0
        surprise = -np.log(counts / counts.sum())[truth.y[truth.mask > 0]]
        return self._in_unit(float(surprise.mean()))

    def _in_unit(self, surprise: float) -> float:
        """Mean surprise in nats as bits per character, or as a perplexity."""
        return float(np.exp(surprise) if self.metric == PERPLEXITY else surprise / np.log(2.0))


def next_symbol(symbols: NDArray[Any]) -> Sequences:
    """A text (n_symbols,) as one sequence: every symbol is to be told from those before it."""
    return Sequences(symbols[None, :-1], symbols[None, 1:], np.ones((1, len(symbols) - 1), np.bool_))
