"""What all tasks share: cutting sequences, metrics of whole sequences and of language models, parsing."""

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign import tasks
from codesign.design import TaskShape
from codesign.errors import InputError
from codesign.tasks import Answers, Metric, Splits, Task
from codesign.tasks.classification import ClassificationTask, labelled, scaled, stacked
from codesign.tasks.language import BITS_PER_CHARACTER, PERPLEXITY, LanguageTask, next_symbol


class Classes(ClassificationTask):
    """A task without data, for its metric."""

    name: Literal["classes"] = "classes"

    @property
    def shape(self) -> TaskShape:
        return TaskShape(1, 3)

    def splits(self) -> Splits:
        raise NotImplementedError

    def checksum(self) -> str:
        return "none"


class Letters(LanguageTask):
    """The same for a language model."""

    name: Literal["letters"] = "letters"
    unit: Literal["chars", "words"] = "chars"

    @property
    def metric(self) -> Metric:
        return BITS_PER_CHARACTER if self.unit == "chars" else PERPLEXITY

    @property
    def shape(self) -> TaskShape:
        return TaskShape(4, 4, tokens=True)

    def splits(self) -> Splits:
        raise NotImplementedError

    def checksum(self) -> str:
        return "none"


def answers(best: NDArray[np.int32], surprise: float = 0.0) -> Answers:
    return Answers(best, np.full(best.shape, surprise, np.float32))


def test_a_text_in_streams_keeps_every_symbol_in_order() -> None:
    text = np.arange(23, dtype=np.uint8)
    data = next_symbol(text)
    np.testing.assert_array_equal(data.y[0], data.x[0] + 1)
    streams = data.streams(4)
    assert streams.x.shape == (4, 6) and streams.mask.sum() == 22
    np.testing.assert_array_equal(streams.x[streams.mask], text[:-1])


@pytest.mark.parametrize(("n", "length"), [(1, 5), (3, 4), (4, 35), (20, 2), (22, 1)])
def test_pieces_of_streams_follow_each_other(n: int, length: int) -> None:
    data = next_symbol(np.arange(23, dtype=np.uint8))
    pieces = data.stream_pieces(n, length)
    assert pieces.x.shape[1] == length and len(pieces.x) % n == 0
    whole = pieces.x.reshape(-1, n, length).swapaxes(0, 1).reshape(n, -1)
    mask = pieces.mask.reshape(-1, n, length).swapaxes(0, 1).reshape(n, -1)
    np.testing.assert_array_equal(whole[mask], np.arange(22))
    streams = data.streams(n)
    np.testing.assert_array_equal(whole[:, : streams.x.shape[1]], streams.x)


def test_the_last_real_step_of_a_sequence_carries_its_label() -> None:
    x, lengths = stacked([np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)])
    data = labelled(x, np.array([1, 2]), lengths)
    np.testing.assert_array_equal(data.mask, [[0, 1, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(data.y[data.mask], [1, 2])
    np.testing.assert_array_equal(data.real, [[1, 1, 0, 0], [1, 1, 1, 1]])
    assert not x[0, 2:].any()


def test_features_are_scaled_by_the_real_steps_of_the_training_part() -> None:
    rng = np.random.default_rng(0)
    train, other = rng.normal(5.0, 3.0, (40, 50, 2)), rng.normal(5.0, 3.0, (7, 50, 2))
    real = np.arange(50) < 30
    train[:, ~real] = 1e9
    a, b = scaled(train, other, real=np.broadcast_to(real, (40, 50)))
    assert a.dtype == b.dtype == np.float32 and abs(a).max() <= 1.0 and a.max() < 1.0
    np.testing.assert_allclose(a[:, real].std((0, 1)), 0.25, rtol=1e-2)
    np.testing.assert_allclose(b[:, real].mean((0, 1)), 0.0, atol=0.05)


def test_classification_counts_sequences_once() -> None:
    x = np.zeros((4, 3, 1), np.float32)
    truth = labelled(x, np.array([0, 0, 0, 1]), np.array([3, 2, 1, 3]))
    best = np.full((4, 3), 2, np.int32)
    best[0, 2], best[1, 1], best[3, 2] = 0, 0, 1  # the third is wrong; other steps never count
    task = Classes()
    assert task.score(answers(best), truth, truth) == {
        "error": pytest.approx(1 / 4),
        "error_mean_of_classes": pytest.approx((1 / 3 + 0) / 2),
    }
    assert task.trivial_error(truth, truth) == pytest.approx(1 / 4)


def test_bits_per_character_and_perplexity_of_a_known_surprise() -> None:
    data = next_symbol(np.array([0, 1, 2, 3, 0, 1], np.uint8))
    told = answers(np.array([[1, 2, 3, 0, 2]], np.int32), surprise=float(np.log(8.0)))
    assert Letters().score(told, data, data) == {"error": pytest.approx(3.0), "wrong_symbols": pytest.approx(1 / 5)}
    assert Letters(unit="words").score(told, data, data)["error"] == pytest.approx(8.0)


def test_padding_does_not_count_in_language_metrics() -> None:
    data = next_symbol(np.arange(4, dtype=np.uint8)).streams(2)
    surprise = np.where(data.mask, np.log(2.0), 1e6).astype(np.float32)
    assert not data.mask.all()
    assert Letters().score(Answers(data.y.astype(np.int32), surprise), data, data)["error"] == pytest.approx(1.0)


def test_the_trivial_language_model_knows_only_frequencies() -> None:
    train = next_symbol(np.array([0] + [1] * 3 + [2] * 3 + [3, 0], np.uint8))  # y: 1 of 0, 3 of 1, 3 of 2, 1 of 3
    shares = np.array([2, 4, 4, 2]) / 12  # one added to each
    truth = next_symbol(np.array([3, 1, 1, 0], np.uint8))
    surprise = -np.log(shares[[1, 1, 0]]).mean()
    assert Letters().trivial_error(train, truth) == pytest.approx(surprise / np.log(2))
    assert Letters(unit="words").trivial_error(train, truth) == pytest.approx(np.exp(surprise))


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (None, "task: is missing; write for instance"),
        (7, "task: needs either a name or a reader, got 7"),
        ({}, "task: needs either a name or a reader, got {}"),
        ({"name": "ru_phones", "reader": "text"}, "task: needs either a name or a reader"),
        ("ru_phons", "task.name: unknown task 'ru_phons'; did you mean 'ru_phones'?"),
        ({"reader": "tex", "path": "x"}, "task.reader: unknown reader 'tex'; did you mean 'text'?"),
        ({"reader": "text"}, "task.path: is missing"),
        ({"name": "ru_phones", "subst": "mini"}, "task.subst: unknown key 'subst'; did you mean 'subset'?"),
        ({"name": "ru_phones", "subset": 3}, "task.subset: must be 'full' or 'mini', got 3"),
    ],
)
def test_a_wrong_task_is_one_line(table: object, fault: str) -> None:
    with pytest.raises(InputError) as caught:
        tasks.parse(table)
    assert len(caught.value.faults) == 1 and str(caught.value).startswith(fault)


def test_a_task_goes_to_plain_data_and_back() -> None:
    for table in ({"name": "ru_phones", "subset": "mini"}, {"reader": "text", "path": "a.txt", "unit": "words"}):
        task = tasks.parse(table)
        again = tasks.parse(task.model_dump(mode="json"))
        assert again == task and hash(again) == hash(task)
        assert table.items() <= task.model_dump(mode="json").items()


def test_where_data_lie_is_no_part_of_what_a_task_is() -> None:
    a, b = (tasks.parse({"reader": "text", "path": path}) for path in ("a.txt", "b.txt"))
    assert a.identity() == b.identity() and a != b


def check_registered(name: str, kind: type[Task]) -> None:
    assert kind.summary and kind.source and kind.licence, name
    assert kind.citation or kind.package is None, name


def test_every_built_in_task_says_where_its_data_come_from() -> None:
    for name, kind in tasks.TASKS.items():
        check_registered(name, kind)
        shape = kind().shape
        assert shape.n_inputs >= 1 and shape.n_outputs >= 2 and kind().metric.what
        assert ("synthetic" in kind().label) == bool(kind.synthetic)
