"""Training on streams, whole sequences and tokens: state carried on, padding without effect, passes that agree."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codesign.design import Fixed, Float, Kernel, Network, Recipe, TaskShape
from codesign.errors import InputError
from codesign.models import RecurrentNetwork
from codesign.tasks import Metric, Sequences, Splits
from codesign.tasks.classification import ClassificationTask, labelled
from codesign.tasks.language import BITS_PER_CHARACTER, LanguageTask, next_symbol
from codesign.training import build, evaluate, train, trainer, training_chunks
from codesign.training.step import Chunks, loss, predict, split

SYMBOLS = 5
FLOAT: dict[str, Any] = {
    "activations": Float(),
    "input_kernel": Kernel(weights=Float()),
    "recurrent_kernel": Kernel(weights=Float()),
    "head_weights": Float(),
    "embedding_weights": Float(),
}


def text(n: int, seed: int) -> np.ndarray:
    """Every second symbol repeats the one two before it: only a state that is carried can tell."""
    symbols = np.random.default_rng(seed).integers(0, SYMBOLS, n)
    symbols[2::4], symbols[3::4] = symbols[0::4][: len(symbols[2::4])], symbols[1::4][: len(symbols[3::4])]
    return symbols.astype(np.uint8)


class Letters(LanguageTask):
    """A text of 5 symbols."""

    name: Literal["letters"] = "letters"
    symbols: int = 3_000

    @property
    def metric(self) -> Metric:
        return BITS_PER_CHARACTER

    @property
    def shape(self) -> TaskShape:
        return TaskShape(SYMBOLS, SYMBOLS, tokens=True)

    def splits(self) -> Splits:
        return Splits(*(next_symbol(text(n, seed)) for seed, n in enumerate((self.symbols, 901, 700))))

    def checksum(self) -> str:
        return "none"


class Signs(ClassificationTask):
    """The sign of a sequence's first step, whatever comes after; `padding` steps follow each."""

    name: Literal["signs"] = "signs"
    padding: int = 0
    int8: bool = False

    @property
    def shape(self) -> TaskShape:
        return TaskShape(2, 2)

    def splits(self) -> Splits:
        return Splits(*(self.part(n, seed) for seed, n in enumerate((200, 60, 20))))

    def part(self, n: int, seed: int) -> Sequences:
        rng = np.random.default_rng(seed)
        x = rng.integers(-128, 128, (n, 9, 2)).astype(np.int8)
        lengths = rng.integers(4, 10, n)
        label = (x[:, 0, 0] > 0).astype(int)
        garbage = rng.integers(-128, 128, (n, self.padding, 2)).astype(np.int8)
        x = np.concatenate([x, garbage], axis=1)
        return labelled(x if self.int8 else x / np.float32(128), label, lengths)

    def checksum(self) -> str:
        return "none"


def test_the_state_is_carried_from_piece_to_piece() -> None:
    """Without learning, the mean loss of an epoch in pieces is that of whole streams read in one go."""
    network, task = Network(cell="lstm", hidden=8, **FLOAT), Letters()
    recipe = Recipe(epochs=1, batch_size=3, sequence_length=7, learning_rate=1e-30)
    streams = task.splits().train.streams(3)
    assert streams.x.shape[1] % 7 == 6  # the last piece is shorter, so its mean counts as a whole one
    trained = train([network], recipe, task, [0])[0]
    graph, params, traced = split(build(network, task, 0))
    surprise = np.asarray(predict(graph, params, traced, streams.x, streams.y, None, False).surprise)
    ends = range(0, streams.x.shape[1], 7)
    pieces = [surprise[:, start : start + 7][streams.mask[:, start : start + 7]].mean() for start in ends]
    assert trained.losses[0] == pytest.approx(np.mean(pieces), abs=2e-6)
    forgetful = [float(compiled_loss(graph, params, traced, _batch(streams, start))[0]) for start in ends]
    assert abs(np.mean(forgetful) - np.mean(pieces)) > 1e-5


compiled_loss = jax.jit(loss, static_argnums=0)


def _batch(streams: Sequences, start: int) -> Any:
    here = slice(start, start + 7)
    return Chunks(streams.x[:, here], streams.y[:, here], streams.mask[:, here], streams.mask[:, here])


@pytest.mark.parametrize("embedding", [0, 6])
def test_a_language_model_learns(embedding: int) -> None:
    network, task = Network(hidden=32, embedding=embedding, **FLOAT), Letters(symbols=12_000)
    recipe = Recipe(epochs=8, batch_size=8, sequence_length=20, learning_rate=0.02)
    trained = train([network], recipe, task, [0])[0]
    found = evaluate(trainer.restore(network, task, 0, trained.weights), task, "validation").metrics["error"]
    trivial = task.trivial_error(task.splits().train, task.splits().validation)
    best = np.log2(SYMBOLS) / 2  # every second symbol is random
    assert trivial == pytest.approx(np.log2(SYMBOLS), abs=0.02)
    assert best < found < 0.5 * (best + trivial)


def test_a_token_is_a_one_hot_vector() -> None:
    network = Network(cell="gru", hidden=8, layers=2)
    tokens, vectors = (RecurrentNetwork(network, TaskShape(SYMBOLS, 3, kind), 0) for kind in (True, False))
    for a, b in zip(tokens.layers, vectors.layers, strict=True):
        b.input_kernel.words[...] = a.input_kernel.words[...]
    x = jnp.asarray(text(12, 0).reshape(6, 2))
    limit = 127 / 128  # a vector of 8-bit words cannot hold 1
    hot = jax.nn.one_hot(x, SYMBOLS)
    plain = network.model_copy(update={"activations": Float()})
    tokens.layers[0].bits[...] = vectors.layers[0].bits[...] = jnp.int32(0)
    assert plain.activations.word_length == 32 and limit < 1
    np.testing.assert_allclose(tokens(x).scores, vectors(hot).scores, atol=1e-5)


def test_an_embedding_is_a_table_of_activation_words() -> None:
    network = Network(hidden=8, embedding=3, embedding_weights=Fixed(bits=4), activations=Fixed(bits=6))
    model = RecurrentNetwork(network, TaskShape(SYMBOLS, 3, tokens=True), 0)
    assert model.embedding is not None
    table = np.asarray(model.embedding.matrix())
    assert table.shape == (SYMBOLS, 3) and len(np.unique(table)) <= 2**4
    x = jnp.asarray(text(12, 0).reshape(6, 2))
    model_of_vectors = RecurrentNetwork(network.model_copy(update={"embedding": 0}), TaskShape(3, 3), 0)
    for mine, theirs in zip(model.layers, model_of_vectors.layers, strict=True):
        theirs.input_kernel.words[...] = mine.input_kernel.words[...]
    np.testing.assert_allclose(model(x).scores, model_of_vectors(jnp.asarray(table)[x]).scores, atol=1e-6)


def test_only_tokens_can_be_embedded() -> None:
    with pytest.raises(InputError, match="network.embedding must be 0"):
        RecurrentNetwork(Network(embedding=4), TaskShape(5, 3), 0)


def test_features_in_int8_are_features_in_units_of_one_128th() -> None:
    network, recipe = Network(hidden=8), Recipe(epochs=2, batch_size=8)
    a, b = (train([network], recipe, Signs(int8=int8), [0])[0] for int8 in (True, False))
    assert a.losses == b.losses


def test_padding_changes_nothing() -> None:
    """Training, metrics and activity are those of the sequences without the steps behind them."""
    network, recipe = Network(hidden=8, state_threshold=0.1), Recipe(epochs=4, batch_size=8)
    found = []
    for task in (Signs(), Signs(padding=5)):
        trained = train([network], recipe, task, [0])[0]
        model = trainer.restore(network, task, 0, trained.weights)
        found.append((trained, evaluate(model, task, "validation")))
    (short, a), (long, b) = found
    np.testing.assert_allclose(long.losses, short.losses, rtol=1e-5)
    for name, weights in short.weights.items():
        np.testing.assert_allclose(long.weights[name], weights, atol=1e-5)
    assert a.metrics == b.metrics
    for block, shares in a.activity[0][1].items():
        np.testing.assert_allclose(b.activity[0][1][block], shares, atol=1e-12)


def test_sequences_with_one_label_are_never_cut() -> None:
    """The label hangs on the first step, further back than a piece is long."""
    task = Signs()
    assert training_chunks(task, 2, 8).x.shape == (200, 9, 2)
    network = Network(hidden=16)
    trained = train([network], Recipe(epochs=25, batch_size=16, sequence_length=2, learning_rate=0.03), task, [0])[0]
    error = evaluate(trainer.restore(network, task, 0, trained.weights), task, "validation").metrics["error"]
    assert error < 0.2


@pytest.mark.parametrize("entries", [2_000, 20_000, 2**26])
def test_streams_side_by_side_are_counted_however_long_they_are(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "STREAM_STEPS", 45)  # 901 symbols are 20 streams
    monkeypatch.setattr(trainer, "PASS_ENTRIES", entries)
    model = build(Network(cell="lstm", hidden=8, state_threshold=0.1), Letters(), 0)
    (batches,) = evaluate(model, Letters(), "validation").activity
    assert set(batches) == {1, 8, 16}


@pytest.mark.parametrize("task", [Letters(), Signs()], ids=["stream", "whole"])
@pytest.mark.parametrize("entries", [8, 40, 200])
def test_an_evaluation_in_several_passes_is_that_of_one(
    task: Any, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "STREAM_STEPS", 400)
    model = build(Network(cell="lstm", hidden=8, layers=2, state_threshold=0.1), task, 0)
    whole = evaluate(model, task, "validation")
    monkeypatch.setattr(trainer, "PASS_ENTRIES", entries)
    parts = evaluate(model, task, "validation")
    assert parts.metrics == pytest.approx(whole.metrics, abs=1e-6)
    for a, b in zip(parts.activity, whole.activity, strict=True):
        for block in b[1]:
            np.testing.assert_allclose(a[1][block], b[1][block], atol=1e-12)
