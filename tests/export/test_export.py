import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import nnx

from codesign import tasks, training
from codesign.cli.main import main
from codesign.compression import BlockCirculant, CoarseGrain, Dense, HierarchicalTucker, TensorStructure, TensorTrain
from codesign.design import (
    Binary,
    Fixed,
    Float,
    Frozen,
    Kernel,
    Network,
    NoBatchNorm,
    PerStep,
    PowerOfTwo,
    TaskShape,
    Ternary,
    WeightFormat,
)
from codesign.errors import DataError, InputError
from codesign.export.folder import export_design, load_export
from codesign.export.weights import biases, kernels, load_weights, save_weights
from codesign.models import RecurrentNetwork
from codesign.models.kernel import written_bias
from codesign.search.results import Results
from codesign.search.study import Study
from codesign.training.step import split as parts_of
from codesign.training.trainer import flat
from tests.tiny import tiny_space

TASK = tasks.find("ru_phones", subset="mini")
VECTORS = SimpleNamespace(shape=TaskShape(13, 5))
TOKENS = SimpleNamespace(shape=TaskShape(13, 5, tokens=True))
X = np.random.default_rng(1).uniform(-1, 1, (7, 3, 13)).astype(np.float32)

STRUCTURES = {
    "dense": Dense(),
    "block circulant": BlockCirculant(block_size=4),
    "padded to a block": BlockCirculant(block_size=16),
    "coarse grain": CoarseGrain(level1_block=8, level1_keep=0.5, level2_block=2, level2_keep=0.5),
    "hierarchical Tucker": HierarchicalTucker(modes=3, leaf_rank=2, inner_rank=2),
    "tensor train": TensorTrain(modes=2, rank=2),
}
FORMATS = {
    "float": Float(),
    "fixed": Fixed(bits=5),
    "power of two": PowerOfTwo(bits=4),
    "binary": Binary(),
    "decided binary": Binary(stochastic=False),
    "ternary": Ternary(),
    "decided ternary": Ternary(stochastic=False),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A finished tiny study."""
    study = Study(tiny_space(), tmp_path_factory.mktemp("export") / "tiny")
    study.run()
    return Results(study.folder)


def test_an_export_loads_back_to_exactly_the_same_accuracy(results, tmp_path):
    for row in results.front():
        export_design(results, row, tmp_path / str(row.trial))
        model, content = load_export(tmp_path / str(row.trial))
        assert content.design == row.design and content.recipe == row.recipe
        for split in ("validation", "test"):
            assert training.evaluate(model, content.task, split).metrics == content.metrics[split]


def test_the_seed_with_the_smallest_validation_error_is_exported(results, tmp_path):
    row = results.front()[0]
    content = export_design(results, row, tmp_path / "out")
    errors = {seed: results.records.trainings()[row.network_key, seed].metrics["error"] for seed in row.seeds}
    assert content.provenance["seed"] == min(errors, key=lambda seed: errors[seed])
    assert content.metrics["validation"]["error"] == min(errors.values())


def test_weights_are_whole_numbers_within_their_word_length(results, tmp_path):
    row = results.front()[0]
    export_design(results, row, tmp_path / "out")
    tensors = safetensors.numpy.load_file(tmp_path / "out" / "weights.safetensors")
    network = row.design.network
    for kernel, name in ((network.input_kernel, "input_kernel"), (network.recurrent_kernel, "recurrent_kernel")):
        words = tensors[f"layers.0.{name}.words"]
        half = 2 ** (kernel.weights.bits - 1)
        assert words.dtype == np.int8 and -half <= words.min() and words.max() < half
        cols = 39 if name == "input_kernel" else network.hidden
        assert len(words) == 3 * kernel.structure.counts(network.hidden, cols).n_words


def as_trained(network, task, seed=3):
    """A model all of whose parameters differ from those it begins with, words of very different sizes among them."""
    rng, weights = np.random.default_rng(0), flat(parts_of(training.build(network, task, seed))[1])
    for name, values in weights.items():
        if name.endswith(".words"):
            weights[name] = values * np.exp(rng.normal(0.0, 1.5, values.shape)).astype(np.float32)
        elif "variances" in name:
            weights[name] = rng.uniform(0.05, 0.3, values.shape).astype(np.float32)
        else:
            weights[name] = rng.normal(size=values.shape).astype(np.float32)
    return training.restore(network, task, seed, weights)


written = nnx.jit(lambda kernel: kernel.written())
bias_in_memory = nnx.jit(written_bias)
one_pass = nnx.jit(lambda model, x: model(x))


def run(model, x):
    """Scores and the first layer's states; models of one graph share one program, so equal weights give equal bits."""
    made = one_pass(model, x)
    return np.asarray(made.scores), np.asarray(made.states[0])


@dataclass
class Saved:
    """A model and the file it was saved to."""

    network: Network
    task: SimpleNamespace
    model: RecurrentNetwork
    path: Path

    def load(self):
        return load_weights(self.path, self.network, self.task, seed=3)

    def tensors(self):
        return safetensors.numpy.load_file(self.path)

    def exponents(self):
        with safetensors.safe_open(self.path, "np") as file:
            return json.loads(file.metadata()["exponents"])


def saved(folder, network, task=VECTORS):
    model, path = as_trained(network, task), folder / "w.safetensors"
    save_weights(model, path)
    return Saved(network, task, model, path)


@pytest.fixture(scope="module", params=product(STRUCTURES, FORMATS), ids=" ".join)
def of_one_kind(request, tmp_path_factory):
    """A saved network whose kernels all have one structure and one format."""
    structure, weights = STRUCTURES[request.param[0]], FORMATS[request.param[1]]
    kernel = Kernel(structure=structure, weights=weights)
    return saved(tmp_path_factory.mktemp("kind"), Network(hidden=8, input_kernel=kernel, recurrent_kernel=kernel))


def held(model):
    """All that a pass depends on, by name: words and biases as memory holds them, all else as it is."""
    graph, params, traced = parts_of(model)
    values = {"graph": graph} | flat(params) | flat(traced)
    values |= {f"{name}.words": written(kernel) for name, kernel in kernels(model).items()}
    return values | {name: bias_in_memory(values[name], kernel) for name, kernel in biases(model).items()}


def survives_bit_for_bit(file):
    found, wanted = held(file.load()), held(file.model)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert np.array_equal(found[name], values), name


def test_every_structure_in_every_format_survives_saving_and_loading_bit_for_bit(of_one_kind):
    survives_bit_for_bit(of_one_kind)


def meaning(file, name, weights):
    """Stored words as numbers, by the table of the module's docstring."""
    tensors, exponents = file.tensors(), file.exponents()
    words = tensors[f"{name}.words"].astype(np.float64)
    if isinstance(weights, Fixed):
        return words * 2.0 ** exponents[f"{name}.words"]
    if isinstance(weights, PowerOfTwo):
        return np.sign(words) * 2.0 ** (np.abs(words) + exponents[f"{name}.words"] - 1)
    return words if isinstance(weights, Float) else words * tensors[f"{name}.scale"]


def test_the_file_alone_gives_every_kernel(of_one_kind):
    for name, cols in (("input_kernel", 13), ("recurrent_kernel", 8)):
        given, trained = getattr(of_one_kind.network, name), getattr(of_one_kind.model.layers[0], name)
        words = meaning(of_one_kind, f"layers.0.{name}", given.weights)
        mask = of_one_kind.tensors().get(f"layers.0.{name}.mask")
        now = np.asarray(written(trained))
        if isinstance(given.structure, TensorStructure):
            np.testing.assert_allclose(words, now, rtol=1e-6)
            continue
        if mask is None:
            wanted = np.concatenate([given.structure.to_dense(gate, 8, cols) for gate in np.split(words, 3)])
        else:  # words of columns that only pad the kernel come last in their row
            wanted = np.zeros((24, cols))
            for row, places, stored in zip(wanted, np.unpackbits(mask, axis=1), words.reshape(24, -1), strict=True):
                columns = np.flatnonzero(places)
                row[columns] = stored[: len(columns)]
        np.testing.assert_allclose((trained.mask * now[trained.ids]).T, wanted, rtol=1e-6)


ranges = [Fixed(bits=bits) for bits in range(3, 17)] + [PowerOfTwo(bits=bits) for bits in range(2, 9)]


@pytest.mark.parametrize("weights", [*ranges, Binary(), Ternary()], ids=str)
def test_written_integers_fill_their_word_length_and_no_more(weights: WeightFormat, tmp_path):
    words = saved(tmp_path, Network(hidden=8, input_kernel=Kernel(weights=weights))).tensors()[
        "layers.0.input_kernel.words"
    ]
    size = np.abs(words.astype(int))
    assert words.dtype == (np.int16 if isinstance(weights, Fixed) and weights.bits > 8 else np.int8)
    if isinstance(weights, Fixed):
        half = 2 ** (weights.bits - 1)
        assert -half <= words.min() and words.max() < half and size.max() >= half // 2
    elif isinstance(weights, PowerOfTwo):
        assert size.max() == 2 ** (weights.bits - 1) - 1 and {-1, 1} <= set(np.sign(words))
        assert weights.bits > 4 or 0 in words
    else:
        assert set(words) == ({-1, 1} if isinstance(weights, Binary) else {-1, 0, 1})


FLOAT = Kernel(weights=Float())
COARSE = Kernel(structure=STRUCTURES["coarse grain"], weights=Fixed(bits=3))
LONG_CIRCULANT = Kernel(structure=BlockCirculant(block_size=4), weights=Fixed(bits=12))
SIGN_CIRCULANT = Kernel(structure=BlockCirculant(block_size=4), weights=Ternary())
SHORT_STATE = {"cell": "lstm", "peephole": True, "projection": 4}
IN_FLOAT = {"head_weights": Float(), "activations": Float(), "input_kernel": FLOAT, "recurrent_kernel": FLOAT}


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        (VECTORS, SHORT_STATE | IN_FLOAT | {"projection_kernel": FLOAT}),
        (VECTORS, {"state_sparsity": 0.5, "state_threshold": 0.1, "input_kernel": Kernel(weights=PowerOfTwo())}),
        (TOKENS, {"embedding": 6, "embedding_weights": Fixed(bits=5)}),
        (TOKENS, IN_FLOAT | {"embedding": 6, "embedding_weights": Float()}),
        (TOKENS, {"input_kernel": Kernel(weights=Binary(stochastic=False))}),
    ],
    ids=["float", "threshold", "embedding", "float embedding", "one-hot"],
)
def test_any_network_survives_saving_and_loading_bit_for_bit(task, fields, tmp_path):
    survives_bit_for_bit(saved(tmp_path, Network.model_validate({"hidden": 8} | fields), task))


def test_a_loaded_network_puts_out_the_same_bits(tmp_path):
    """Of two layers with peepholes, a projection and four structures."""
    words = {"input_kernel": LONG_CIRCULANT, "recurrent_kernel": COARSE, "projection_kernel": SIGN_CIRCULANT}
    file = saved(tmp_path, Network(hidden=8, layers=2, head_weights=Fixed(bits=3), **SHORT_STATE, **words))
    survives_bit_for_bit(file)
    for found, wanted in zip(run(file.load(), X), run(file.model, X), strict=True):
        assert np.array_equal(found, wanted)
        assert np.ptp(wanted) > 0.1


def normalised(kind, cell, folder, **fields):
    """A saved network with batch normalisation."""
    return saved(folder, Network.model_validate({"hidden": 8, "cell": cell, "batch_norm": kind} | fields))


SIGNS = {"input_kernel": Kernel(weights=Ternary()), "recurrent_kernel": Kernel(weights=Binary())}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def states_of(cell, part, x, threshold):
    """(time, batch, hidden) what a layer whose parts the file names makes of x, by the equations of `Folded`."""
    c = h = seen = np.zeros((x.shape[1], 8))
    states = []
    for step, given in enumerate(x.astype(np.float64)):
        now = {name: values[min(step, len(values) - 1)] for name, values in part.items() if values.ndim == 2}
        of_x = now["scale_x"] * (given @ part["input_kernel.words"].reshape(-1, x.shape[2]).T)
        of_h = now["scale_h"] * (seen @ part["recurrent_kernel.words"].reshape(-1, 8).T)
        if cell == "lstm":
            i, f, g, o = np.split(of_x + of_h + now["shift"], 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(now["scale_c"] * c + now["shift_c"])
        else:
            to_rz, to_n, to_hn = np.split(now["shift"], [16, 24])
            r, z = np.split(sigmoid(of_x[:, :16] + of_h[:, :16] + to_rz), 2, axis=1)
            h = (1 - z) * np.tanh(of_x[:, 16:] + to_n + r * (of_h[:, 16:] + to_hn)) + z * h
        seen = np.where(np.abs(h) < threshold, 0.0, h)
        states.append(seen)
    return states


@pytest.mark.parametrize(("cell", "kind"), [("lstm", Frozen()), ("gru", PerStep(steps=3))], ids=str)
def test_a_folded_layer_runs_from_the_file_alone(cell, kind, tmp_path):
    """Signs, one multiplication for each product and gate output, one addition: nothing else is in the file."""
    file = normalised(kind, cell, tmp_path, activations=Float(), state_threshold=0.1, **SIGNS)
    tensors = file.tensors()
    part = {name.removeprefix("layers.0."): tensors.pop(name) for name in list(tensors) if name.startswith("layers.")}
    assert tensors.keys() == {"head.words", "bias"}
    assert part.keys() == {
        "input_kernel.words",
        "recurrent_kernel.words",
        "scale_x",
        "scale_h",
        "shift",
    } | ({"scale_c", "shift_c"} if cell == "lstm" else set())
    assert set(part["input_kernel.words"]) == {-1, 0, 1} and set(part["recurrent_kernel.words"]) == {-1, 1}
    assert len(part["shift"]) == (3 if kind.kind == "per_step" else 1)
    np.testing.assert_allclose(run(file.model, X)[1], states_of(cell, part, X, 0.1), atol=1e-5)


TREE = {"structure": STRUCTURES["hierarchical Tucker"], "weights": "ternary"}


@pytest.mark.parametrize(
    ("kind", "cell", "fields"),
    [
        (Frozen(), "lstm", SIGNS),
        (PerStep(steps=3), "gru", SIGNS),
        (PerStep(steps=3), "lstm", {"layers": 2, "input_kernel": FLOAT, "recurrent_kernel": COARSE}),
        (Frozen(), "gru", {"input_kernel": Kernel(weights=PowerOfTwo()), "recurrent_kernel": TREE}),
    ],
    ids=["signs", "signs, per step", "two layers, per step", "tensor of signs"],
)
def test_folded_normalisation_loads_back_to_the_same_scores_within_rounding(kind, cell, fields, tmp_path):
    file = normalised(kind, cell, tmp_path, **fields | {"activations": Float()})
    loaded = file.load()
    found, wanted = run(loaded, X)[0], run(file.model, X)[0]
    assert np.ptp(wanted) > 1.0
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert np.array_equal(found.argmax(-1), wanted.argmax(-1))
    save_weights(loaded, tmp_path / "again.safetensors")
    again = safetensors.numpy.load_file(tmp_path / "again.safetensors")
    for name, tensor in file.tensors().items():
        np.testing.assert_allclose(again[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_folded_network_of_8_bit_activations_decides_every_frame_of_speech_the_same(tmp_path):
    file = saved(tmp_path, Network(hidden=8, cell="lstm", batch_norm=Frozen(), **SIGNS), TASK)
    x = training.splits(TASK).validation.x.swapaxes(0, 1)
    found, wanted = run(file.load(), x)[0], run(file.model, x)[0]
    assert np.array_equal(found.argmax(-1), wanted.argmax(-1))
    assert np.mean(np.abs(found - wanted).max(-1) > 1e-5) < 0.01  # a word of 8 bits may round a tie the other way


def test_damaged_or_foreign_weights_are_one_line(results, tmp_path):
    row = results.front()[0]
    export_design(results, row, tmp_path)
    path = tmp_path / "weights.safetensors"
    good = path.read_bytes()
    with pytest.raises(DataError, match="does not fit the network of its design.toml"):
        load_weights(path, Network(hidden=16), TASK, 0)
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"weights\.safetensors: cannot be read"):
        load_export(tmp_path)
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(3)}))
    with pytest.raises(DataError, match="is not 'codesign weights 1'"):
        load_export(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        load_export(tmp_path)


def test_constants_of_other_steps_than_the_networks_are_one_line(tmp_path):
    file = normalised(Frozen(), "gru", tmp_path)
    for steps, fault in ((None, r"'layers\.0\.bias'"), (5, r"layers\.0\.scale_x is of shape \(1, 24\), not \(5, 24\)")):
        other = file.network.model_copy(update={"batch_norm": PerStep(steps=steps) if steps else NoBatchNorm()})
        with pytest.raises(DataError, match=f"does not fit the network of its design.toml .*{fault}"):
            load_weights(file.path, other, VECTORS, 3)


def test_other_random_positions_than_the_stored_ones_are_noticed(tmp_path):
    structure = CoarseGrain(level1_block=8, level1_keep=0.5, level2_block=2, level2_keep=0.5)
    network = Network(hidden=16, recurrent_kernel=Kernel(structure=structure))
    save_weights(training.build(network, TASK, seed=0), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="drawn with other random positions"):
        load_weights(tmp_path / "w.safetensors", network, TASK, seed=1)


def test_a_handwritten_design_is_not_an_export(tmp_path):
    (tmp_path / "design.toml").write_text('task = { name = "ru_phones" }')
    with pytest.raises(InputError, match="has no table recipe, cost, metrics, provenance"):
        load_export(tmp_path)


def test_the_command_exports_the_chosen_member(results, tmp_path, capsys):
    fastest = min(results.front(), key=lambda row: row.cost["latency_s"])
    assert main(["export", str(results.folder), "--best", "latency_s", "--to", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == f"wrote trial {fastest.trial} to {tmp_path / 'out'}\n"
    assert load_export(tmp_path / "out")[1].provenance["trial"] == fastest.trial
    assert main(["estimate", str(tmp_path / "out" / "design.toml")]) == 0


def test_lost_weights_of_a_study_are_one_line(results, tmp_path):
    row = results.front()[0]
    runs = [results.records.training(row.network_key, seed) for seed in row.seeds]
    paths = [results.artifacts.folder / run.weights for run in runs]
    kept = [path.read_bytes() for path in paths]
    try:
        for path in paths:
            path.unlink()
        with pytest.raises(DataError, match="is lost; run the search again"):
            export_design(results, row, tmp_path)
    finally:
        for path, content in zip(paths, kept, strict=True):
            path.write_bytes(content)
