import tomllib
from pathlib import Path

import numpy as np
import pytest

from codesign.design import Design, Recipe
from codesign.errors import InputError
from codesign.knobs import Choice
from codesign.search.space import load_search_space, parse, try_points
from tests.tiny import TINY, tiny_space

SPACES = Path(__file__).parents[2] / "search_spaces"


def faults(change):
    """What parse says of the tiny space after `change` has edited its tables."""
    tables = tomllib.loads(TINY)
    change(tables)
    with pytest.raises(InputError) as caught:
        try_points(parse(tables, "x.toml", "x", ""), "x.toml")
    return list(caught.value.faults)


def put(path, value):
    def change(tables):
        *parents, last = path.split(".")
        for name in parents:
            tables = tables.setdefault(name, {})
        tables[last] = value

    return change


@pytest.mark.parametrize("path", sorted(SPACES.glob("**/*.toml")), ids=lambda path: path.stem)
def test_every_shipped_space_is_valid_and_opens_with_question_command_and_expectation(path):
    assert load_search_space(path).knobs
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert "?" in comment[0]
    assert any(f"codesign search search_spaces/{path.relative_to(SPACES)}" in line for line in comment)
    assert any("Expect" in line or "xpect" in line for line in comment)


def test_the_demo_searches_block_size_sparsity_word_lengths_and_parallelism_in_one_space():
    knobs = load_search_space(SPACES / "ru_phones.toml").knobs
    for kernel in ("input_kernel", "recurrent_kernel"):
        assert len(knobs[f"network.{kernel}.structure.block_circulant.block_size"].values) >= 2
        assert any(name.startswith(f"network.{kernel}.structure.coarse_grain.level") for name in knobs)
        assert len(knobs[f"network.{kernel}.weights.fixed.bits"].values) >= 2
    for name in ("network.cell", "network.hidden", "network.state_threshold", "network.activations.fixed.bits"):
        assert isinstance(knobs[name], Choice)
    assert len(knobs["accelerator.n_pe"].values) >= 2


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("network.hiden", 8, "x.toml: network.hiden: unknown key 'hiden'; did you mean 'hidden'?"),
        ("sercha", {}, "x.toml: sercha: unknown key 'sercha'; did you mean 'search'?"),
        ("network.hidden", "8", "x.toml: network.hidden: must be a valid integer, got '8'"),
        ("network.hidden", [], "x.toml: network.hidden: is an empty list; give at least one value"),
        ("network.hidden", {"low": 8, "high": 8}, "x.toml: network.hidden: low must be smaller than high"),
        (
            "network.input_kernel.structure",
            {"kind": "block_circulant", "block_size": 7},
            "x.toml: network.input_kernel.structure.block_circulant.block_size: must be a power of two, got 7",
        ),
        (
            "network.input_kernel.weights",
            {"kind": "fixed", "bits": [-1, 8]},
            "x.toml: network.input_kernel.weights.fixed.bits: must be greater than or equal to 3, got -1",
        ),
        (
            "network.input_kernel.structure",
            {"kind": "block_circulant", "block_size": [2, 64]},
            "x.toml: network.input_kernel.structure.block_circulant.block_size: 64 is larger than every layer",
        ),
        ("accelerator.technology", "xc7z02", "x.toml: accelerator.technology: unknown technology 'xc7z02'; did you"),
        ("accelerator.kind", "serial", "x.toml: accelerator.kind: unknown accelerator 'serial'; did you"),
        ("search.objectives", ["error", "latency"], "x.toml: search.objectives: unknown objective 'latency'; did you"),
        ("search.objectives", ["error"], "x.toml: search.objectives: must hold error and one or more"),
        ("search.objectives", "error", "x.toml: search.objectives: must be a list such as"),
        ("search.limits", {"dspp": 3}, "x.toml: search.limits.dspp: unknown cost 'dspp'; did you mean 'dsp'?"),
        ("search.limits", {"dsp": -3}, "x.toml: search.limits.dsp: must be a number above zero, got -3"),
        (
            "search.sampler",
            "tpee",
            "x.toml: search.sampler: must be 'tpe', 'nsga2', 'nsga3', 'gp', 'random', 'qmc' or 'ernn'",
        ),
        ("search.trials", 0, "x.toml: search.trials: must be greater than or equal to 1, got 0"),
        ("task", "ru_phone", "x.toml: task.name: unknown task 'ru_phone'; did you mean 'ru_phones'?"),
        ("task.subset", "minni", "x.toml: task.subset: unknown subset 'minni'; did you mean 'mini'?"),
        ("name", "../up", "x.toml: name: must be letters, digits"),
        ("accelerator.n_pe", 16, "x.toml: none of 256 random designs can run; mostly because n_pe = 16 does not"),
    ],
)
def test_a_fault_is_one_line_with_path_rule_value_and_repair(path, value, line):
    found = faults(put(path, value))
    assert len(found) == 1
    assert found[0].startswith(line)


def test_a_search_that_is_no_table_is_said_to_be_none():
    assert faults(put("search", 3))[0] == "x.toml: search: must be a table, got 3"


def test_a_cost_that_the_technology_lacks_is_refused_with_those_it_has():
    def change(tables):
        tables["accelerator"]["technology"] = "asic65"
        tables["search"]["objectives"] = ["error", "lut"]

    assert faults(change) == [
        "x.toml: search: asic65 has no lut; it has cycles, latency_s, energy_j, power_w, area_mm2, storage_bits"
    ]


def test_all_faults_of_a_file_come_at_once():
    def change(tables):
        tables["network"]["hiden"] = 3
        tables["accelerator"]["technology"] = "xc"
        tables["search"]["trials"] = "many"
        del tables["task"]

    assert len(faults(change)) == 4


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no such file"),
        (b"name = ", "is not valid TOML: Invalid value (at end of document)"),
        (bytes(range(256)), "is not text; a TOML file in UTF-8 is expected"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, content, line):
    path = tmp_path / "space.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_search_space(path)
    assert caught.value.faults == (f"{path}: {line}",)


def test_random_points_are_valid_designs_that_use_every_value_of_every_knob():
    space = tiny_space()
    rng = np.random.default_rng(0)
    points = [space.sample(rng) for _ in range(200)]
    assert all(isinstance(d, Design) and isinstance(r, Recipe) for d, r in points)
    assert {d.accelerator.n_pe for d, _ in points} == {2, 4, 8, 16}
    assert {d.network.recurrent_kernel.structure.kind for d, _ in points} == {"dense", "coarse_grain"}
    blocks = {getattr(d.network.input_kernel.structure, "block_size", None) for d, _ in points}
    assert blocks == {None, 2, 4}


def test_ranges_are_sampled_within_their_ends_and_on_their_steps():
    tables = tomllib.loads(TINY)
    tables["recipe"]["learning_rate"] = {"low": 1e-3, "high": 1e-1, "log": True}
    tables["recipe"]["batch_size"] = {"low": 8, "high": 32, "step": 8}
    space = parse(tables, "x.toml", "x", "")
    rng = np.random.default_rng(0)
    recipes = [space.sample(rng)[1] for _ in range(300)]
    rates = np.log10([recipe.learning_rate for recipe in recipes])
    assert -3.0 <= rates.min() < -2.9 and -1.1 < rates.max() <= -1.0
    assert abs(np.median(rates) + 2.0) < 0.15
    assert {recipe.batch_size for recipe in recipes} == {8, 16, 24, 32}


def test_more_trials_or_seeds_are_the_same_study_and_anything_else_is_another():
    same = tiny_space(trials=9, confirm_seeds=5)
    assert same.identity() == tiny_space().identity()
    for other in (
        tiny_space(seed=1),
        tiny_space(sampler="nsga2"),
        tiny_space(limits={"latency_s": 1e-3}),
        tiny_space(objectives=["error", "lut"]),
    ):
        assert other.identity() != tiny_space().identity()


def test_error_comes_first_wherever_it_stands_in_the_file():
    space = tiny_space(objectives=["latency_s", "error", "lut"])
    assert space.objectives == ("error", "latency_s", "lut")
    assert space.identity() == tiny_space(objectives=["error", "latency_s", "lut"]).identity()
