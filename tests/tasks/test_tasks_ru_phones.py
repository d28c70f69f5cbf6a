"""The shipped speech data: its splits, features, labels and checks, and how predictions are scored."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign import tasks
from codesign.errors import DataError, InputError
from codesign.tasks import Answers, Sequences, Splits, ru_phones
from codesign.tasks.ru_phones import DELAY, PAUSE

TASK = tasks.find("ru_phones")
MINI = tasks.find("ru_phones", subset="mini")
N_FRAMES = 595_886


@pytest.fixture(scope="module")
def raw() -> dict[str, NDArray[Any]]:
    with np.load(ru_phones.DATA) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def full() -> Splits:
    return TASK.splits()


@pytest.fixture(scope="module")
def mini() -> Splits:
    return MINI.splits()


def parts(splits: Splits) -> tuple[Sequences, Sequences, Sequences]:
    return splits.train, splits.validation, splits.test


def contents(part: Sequences) -> list[bytes]:
    """Each utterance without its padding."""
    lengths = part.mask.sum(1).astype(int)
    return [x[:n].tobytes() for x, n in zip(part.x, lengths, strict=True)]


@pytest.mark.parametrize(("subset", "sizes"), [("full", [500, 60, 60]), ("mini", [100, 20, 30])])
def test_splits_have_their_sizes(subset: str, sizes: list[int]) -> None:
    assert [len(part.x) for part in parts(tasks.find("ru_phones", subset=subset).splits())] == sizes


@pytest.mark.parametrize("subset", TASK.subsets())
def test_no_utterance_stands_in_two_splits(subset: str) -> None:
    data = tasks.find("ru_phones", subset=subset).splits()
    utterances = [utterance for part in parts(data) for utterance in contents(part)]
    assert len(set(utterances)) == len(utterances)


def test_the_mini_subset_is_part_of_the_full_training_data(full: Splits, mini: Splits) -> None:
    assert {utterance for part in parts(mini) for utterance in contents(part)} <= set(contents(full.train))


def test_every_frame_of_the_corpus_counts_once(full: Splits, raw: dict[str, NDArray[Any]]) -> None:
    counted = np.concatenate([part.mask.sum(1) for part in parts(full)])
    np.testing.assert_array_equal(counted, raw["length"])
    assert counted.sum() == N_FRAMES


def test_features_have_their_number_and_range(full: Splits) -> None:
    for part in parts(full):
        assert part.x.shape[2] == TASK.shape.n_inputs == 39
        assert -1.0 <= part.x.min() < -0.5
        assert 0.5 < part.x.max() < 1.0


def test_every_class_is_used_in_training(full: Splits) -> None:
    used = np.unique(full.train.y[full.train.mask > 0])
    np.testing.assert_array_equal(used, np.arange(51))
    assert TASK.shape.n_outputs == 51


def test_labels_are_due_five_frames_late(full: Splits, raw: dict[str, NDArray[Any]]) -> None:
    assert DELAY == 5
    starts = np.concatenate([[0], np.cumsum(raw["length"])])
    utterances = list(pairwise(starts))
    for part, first in zip(parts(full), (0, 500, 560), strict=True):
        for row in (0, 17, 59):
            begin, end = utterances[first + row]
            length = end - begin
            np.testing.assert_array_equal(part.y[row, 5 : 5 + length], raw["phone"][begin:end])
            np.testing.assert_array_equal(np.flatnonzero(part.mask[row]), np.arange(5, 5 + length))
            np.testing.assert_array_equal(part.x[row, :length, :13], raw["cepstra"][begin:end] / np.float32(128))
            assert not part.x[row, length:].any()


def test_time_suffices_for_the_longest_utterance_and_no_more(full: Splits) -> None:
    for part in parts(full):
        assert part.mask.sum(1).max() + DELAY == part.mask.shape[1]


def slope(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares slope over five frames, the first and last repeated beyond the ends."""
    n = len(features)
    out = np.zeros_like(features)
    for t in range(n):
        for k in (-2, -1, 1, 2):
            out[t] += k * features[min(max(t + k, 0), n - 1)] / 10.0
    return out


def test_differences_equal_a_hand_computation_on_one_utterance(full: Splits, raw: dict[str, NDArray[Any]]) -> None:
    begin, end = int(raw["length"][0]), int(raw["length"][:2].sum())
    cepstra = raw["cepstra"][begin:end] / 128.0
    first = slope(cepstra)
    x = full.train.x[1, : end - begin].astype(np.float64)
    for found, expected in ((x[:, 13:26], first), (x[:, 26:], slope(first))):
        inside = np.abs(found) < 0.99
        factor = (found[inside] * expected[inside]).sum() / (expected[inside] ** 2).sum()
        assert factor > 1.0
        scale = np.array(
            [np.linalg.norm(f[i]) / np.linalg.norm(e[i]) for f, e, i in zip(found.T, expected.T, inside.T, strict=True)]
        )
        np.testing.assert_allclose(found, np.clip(expected * scale, -1, 1 - 1 / 128), atol=1e-5)


def test_differences_are_as_wide_as_the_cepstra_they_come_from(full: Splits) -> None:
    frames = np.concatenate([x[:n] for x, n in zip(full.train.x, full.train.mask.sum(1).astype(int), strict=True)])
    width = frames.std(0).reshape(3, 13)
    # Equal before values beyond four standard deviations were cut; onsets make the first of them cut most.
    np.testing.assert_allclose(width[1], width[0], rtol=0.05)
    np.testing.assert_allclose(width[2], width[0], rtol=0.05)


def test_chunks_keep_every_counted_step_in_order(mini: Splits) -> None:
    pieces = mini.validation.chunks(100)
    counted, cut = mini.validation.mask > 0, pieces.mask > 0
    assert pieces.x.shape[1:] == (100, 39)
    np.testing.assert_array_equal(pieces.y[cut], mini.validation.y[counted])
    np.testing.assert_array_equal(pieces.x[cut], mini.validation.x[counted])
    assert cut.any(1).all()


def test_chunks_of_a_short_sequence_by_hand() -> None:
    x = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    y = np.arange(5, dtype=np.int32).reshape(1, 5)
    pieces = Sequences(x, y, np.array([[0, 1, 0, 0, 1]], np.float32)).chunks(2)
    assert pieces.x[..., 0].tolist() == [[0, 1], [4, 0]]
    assert pieces.y.tolist() == [[0, 1], [4, 0]]
    assert pieces.mask.tolist() == [[0, 1], [1, 0]]


@pytest.fixture
def no_cache() -> Iterator[None]:
    """The corpus is read again, before and after."""
    ru_phones._corpus.cache_clear()
    yield
    ru_phones._corpus.cache_clear()


@pytest.mark.usefixtures("no_cache")
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(ru_phones.DATA.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "ru_phones.npz"
    damaged.write_bytes(content)
    monkeypatch.setattr(ru_phones, "DATA", damaged)
    with pytest.raises(DataError) as caught:
        MINI.splits()
    message = f"{damaged}: is damaged (its sha256 differs from {TASK.checksum()[:12]}...); install codesign again"
    assert str(caught.value) == message


@pytest.mark.usefixtures("no_cache")
def test_a_missing_file_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "ru_phones.npz"
    monkeypatch.setattr(ru_phones, "DATA", missing)
    with pytest.raises(DataError) as caught:
        MINI.splits()
    assert str(caught.value) == f"{missing}: cannot be read (No such file or directory); install codesign again"


def test_an_unknown_subset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError) as caught:
        tasks.find("ru_phones", subset="minni")
    assert str(caught.value) == "task.subset: unknown subset 'minni'; did you mean 'mini'? Known: full, mini"


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError) as caught:
        tasks.find("ru_phone")
    assert str(caught.value).startswith("task.name: unknown task 'ru_phone'; did you mean 'ru_phones'? Known: ")


def test_every_task_is_registered_under_its_name() -> None:
    for name, kind in tasks.TASKS.items():
        assert kind().model_dump()["name"] == name
    for name, kind in tasks.READERS.items():
        assert kind.model_fields["reader"].default == name and "path" in kind.model_fields


def certain(y: NDArray[np.int32]) -> Answers:
    """Answers that name class y at every step."""
    scores = np.where(np.arange(51) == y[..., None], np.float32(-1e-4), np.float32(-20.0))
    return Answers(y, np.zeros(y.shape, np.float32), scores)


def test_perfect_scores_have_no_error(mini: Splits) -> None:
    metrics = TASK.score(certain(mini.validation.y), mini.validation, mini.train)
    assert metrics == {"error": 0.0, "error_without_pauses": 0.0, "phone_error_rate": 0.0}


def test_padding_is_not_scored(mini: Splits) -> None:
    truth = mini.validation
    garbage = np.random.default_rng(0).integers(0, 51, truth.y.shape)
    scores = certain(np.where(truth.mask > 0, truth.y, garbage).astype(np.int32))
    assert TASK.score(scores, truth, mini.train) == TASK.score(certain(truth.y), truth, mini.train)


def test_a_wrong_frame_counts_as_one_of_all_frames(mini: Splits) -> None:
    truth = mini.validation
    wrong = truth.y.copy()
    speech = np.argwhere((truth.mask > 0) & (truth.y != PAUSE))
    pauses = np.argwhere((truth.mask > 0) & (truth.y == PAUSE))
    for row, step in [*speech[:30], *pauses[:10]]:
        wrong[row, step] = (truth.y[row, step] + 1) % 51
    metrics = TASK.score(certain(wrong), truth, mini.train)
    assert metrics["error"] == pytest.approx(40 / truth.mask.sum())
    assert metrics["error_without_pauses"] == pytest.approx(30 / len(speech))


def test_saying_one_phone_only_deletes_all_others(mini: Splits) -> None:
    truth = mini.validation
    metrics = TASK.score(certain(np.full_like(truth.y, PAUSE)), truth, mini.train)
    phones = [y[m > 0][np.r_[True, np.diff(y[m > 0]) != 0]] for y, m in zip(truth.y, truth.mask, strict=True)]
    n_phones, n_kept = sum(map(len, phones)), sum(PAUSE in said for said in phones)
    assert metrics["phone_error_rate"] == pytest.approx((n_phones - n_kept) / n_phones)
    assert metrics["error"] == pytest.approx(TASK.trivial_error(mini.train, truth))


def test_the_trivial_answer_is_the_most_frequent_training_class() -> None:
    x = np.zeros((1, 6, 39), np.float32)
    counted = np.array([[1, 1, 1, 1, 1, 0]], np.float32)
    train = Sequences(x, np.array([[4, 4, 4, 7, 7, 7]], np.int32), counted)
    truth = Sequences(x, np.array([[7, 7, 4, 9, 4, 4]], np.int32), counted)
    assert TASK.trivial_error(train, truth) == pytest.approx(3 / 5)


def test_the_most_frequent_phone_is_the_pause(full: Splits) -> None:
    counts = np.bincount(full.train.y[full.train.mask > 0])
    assert counts.argmax() == PAUSE
    expected = 1 - np.mean(full.validation.y[full.validation.mask > 0] == PAUSE)
    assert TASK.trivial_error(full.train, full.validation) == pytest.approx(expected)
