import numpy as np
import pytest
import safetensors.numpy

from codesign import tasks, training
from codesign.cli.main import main
from codesign.compression import BlockCirculant, CoarseGrain
from codesign.design import Fixed, Float, Kernel, Network
from codesign.errors import DataError, InputError
from codesign.export.folder import export_design, load_export
from codesign.export.weights import kernels, load_weights, save_weights
from codesign.search.results import Results
from codesign.search.study import Study
from tests.tiny import tiny_space

TASK = tasks.find("ru_phones", subset="mini")


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


@pytest.mark.parametrize(
    "network",
    [
        Network(hidden=8, head_weights=Float(), activations=Float(),
                input_kernel=Kernel(weights=Float()), recurrent_kernel=Kernel(weights=Float())),
        Network(hidden=32, cell="lstm", layers=2, head_weights=Fixed(bits=3),
                input_kernel=Kernel(structure=BlockCirculant(block_size=4), weights=Fixed(bits=12)),
                recurrent_kernel=Kernel(weights=Fixed(bits=3), structure=CoarseGrain(
                    level1_block=4, level1_keep=0.5, level2_block=2, level2_keep=0.5))),
    ],
    ids=["float", "two layers, three structures"],
)  # fmt: skip
def test_any_network_survives_saving_and_loading_bit_for_bit(network, tmp_path):
    model = training.build(network, TASK, seed=3)
    save_weights(model, tmp_path / "w.safetensors")
    loaded = load_weights(tmp_path / "w.safetensors", network, TASK, seed=3)
    for name, kernel in kernels(model).items():
        assert np.array_equal(kernel.matrix(), kernels(loaded)[name].matrix())
    x = np.random.default_rng(0).uniform(-1, 1, (5, 2, 39)).astype(np.float32)
    assert np.array_equal(model(x)[0], loaded(x)[0])


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
    paths = [results.folder / "weights" / f"{row.network_key}-{seed}.safetensors" for seed in row.seeds]
    kept = [path.read_bytes() for path in paths]
    try:
        for path in paths:
            path.unlink()
        with pytest.raises(DataError, match="cannot be read .* delete it and run the search again"):
            export_design(results, row, tmp_path)
    finally:
        for path, content in zip(paths, kept, strict=True):
            path.write_bytes(content)
