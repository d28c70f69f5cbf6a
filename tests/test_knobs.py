"""Reading search spaces: every fault gives its line, and free fields have names and values."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from codesign.compression import CoarseGrain, Dense
from codesign.design import Accelerator, Fixed, Float, Network, Recipe
from codesign.errors import InputError
from codesign.knobs import Alternatives, Choice, Range, Reader, free, read_toml, resolve, tree_values

COARSE: dict[str, Any] = {
    "kind": "coarse_grain",
    "level1_block": 8,
    "level1_keep": 0.5,
    "level2_block": 4,
    "level2_keep": 0.5,
}


def faults(model: type[BaseModel], table: Any) -> list[str]:
    reader = Reader("space.toml")
    reader.tree(model, table, "top")
    return reader.faults


def tree(model: type[BaseModel], table: Any) -> dict[str, Any]:
    reader = Reader("space.toml")
    found = reader.tree(model, table, "top")
    assert not reader.faults
    return found


def structure(*options: Any) -> dict[str, Any]:
    return {"input_kernel": {"structure": list(options)}}


RECIPE_KEYS = (
    "admm_epochs, admm_growth, admm_rho, batch_size, dense_epochs, epochs, later_rate, learning_rate, "
    "max_gradient_norm, sequence_length, warmup"
)
STRUCTURE = "top.input_kernel.structure"

FAULTS: dict[str, tuple[type[BaseModel], Any, str]] = {
    "unknown key": (
        Recipe,
        {"learning_rat": 1.0},
        f"top.learning_rat: unknown key 'learning_rat'; did you mean 'learning_rate'? Known: {RECIPE_KEYS}",
    ),
    "unknown key near to none": (Recipe, {"xyzzy": 1}, f"top.xyzzy: unknown key 'xyzzy'; Known: {RECIPE_KEYS}"),
    "no table": (Network, 7, "top: must be a table, got 7"),
    "no table below": (Network, {"input_kernel": 7}, "top.input_kernel: must be a table, got 7"),
    "missing parameter": (
        Network,
        structure({"kind": "block_circulant"}),
        f"{STRUCTURE}.block_circulant.block_size: is missing",
    ),
    "text for a number": (Network, {"hidden": "many"}, "top.hidden: must be a valid integer, got 'many'"),
    "number in quotes": (Network, {"hidden": "64"}, "top.hidden: must be a valid integer, got '64'"),
    "fraction for a whole number": (Network, {"hidden": 8.0}, "top.hidden: must be a valid integer, got 8.0"),
    "truth value for a number": (Network, {"hidden": True}, "top.hidden: must be a valid integer, got True"),
    "number for a name": (Accelerator, {"kind": 3}, "top.kind: must be a valid string, got 3"),
    "unknown name": (Network, {"cell": "rnn"}, "top.cell: must be 'lstm' or 'gru', got 'rnn'"),
    "too large": (Network, {"layers": 4}, "top.layers: must be less than or equal to 3, got 4"),
    "too small": (Recipe, {"epochs": 0}, "top.epochs: must be greater than or equal to 1, got 0"),
    "not a number": (Recipe, {"learning_rate": float("nan")}, "top.learning_rate: must be greater than 0, got nan"),
    "one wrong choice": (Network, {"layers": [1, 2, 4]}, "top.layers: must be less than or equal to 3, got 4"),
    "range among choices": (
        Network,
        {"hidden": [{"low": 8}, 4]},
        "top.hidden: must be a valid integer, got {'low': 8}",
    ),
    "empty list": (Network, {"hidden": []}, "top.hidden: is an empty list; give at least one value"),
    "value twice": (Network, {"hidden": [8, 16, 8]}, "top.hidden: holds a value twice: [8, 16, 8]"),
    "value twice in two spellings": (
        Recipe,
        {"learning_rate": [1, 1.0]},
        "top.learning_rate: holds a value twice: [1, 1.0]",
    ),
    "range upside down": (
        Network,
        {"hidden": {"low": 64, "high": 8}},
        "top.hidden: low must be smaller than high, got low = 64, high = 8",
    ),
    "range of one value": (
        Network,
        {"hidden": {"low": 8, "high": 8}},
        "top.hidden: low must be smaller than high, got low = 8, high = 8",
    ),
    "half a range": (Network, {"hidden": {"low": 8}}, "top.hidden: a range needs both low and high"),
    "end out of bounds": (
        Network,
        {"layers": {"low": 1, "high": 9}},
        "top.layers.high: must be less than or equal to 3, got 9",
    ),
    "unknown range key": (
        Network,
        {"hidden": {"low": 8, "high": 64, "steps": 8}},
        "top.hidden.steps: unknown key 'steps'; did you mean 'step'? Known: high, log, low, step",
    ),
    "step and log": (
        Network,
        {"hidden": {"low": 8, "high": 64, "step": 8, "log": True}},
        "top.hidden: step and log cannot be used together; leave one out",
    ),
    "step that is none": (
        Network,
        {"hidden": {"low": 8, "high": 64, "step": 0}},
        "top.hidden.step: must be a number above zero, got 0",
    ),
    "log that is none": (
        Network,
        {"hidden": {"low": 8, "high": 64, "log": "yes"}},
        "top.hidden.log: must be true or false, got 'yes'",
    ),
    "logarithm of zero": (
        Network,
        {"state_threshold": {"low": 0.0, "high": 0.5, "log": True}},
        "top.state_threshold: a log range must begin above zero, got low = 0.0",
    ),
    "unknown kind": (
        Network,
        structure("dense", "block_circulent"),
        f"{STRUCTURE}: unknown structure 'block_circulent'; did you mean 'block_circulant'? "
        "Known: block_circulant, coarse_grain, dense, hierarchical_tucker, tensor_train",
    ),
    "unknown format": (
        Network,
        {"activations": {"kind": "fix"}},
        "top.activations: unknown number format 'fix'; did you mean 'fixed'? Known: fixed, float",
    ),
    "kind twice": (
        Network,
        structure({"kind": "block_circulant", "block_size": 2}, {"kind": "block_circulant", "block_size": 4}),
        f"{STRUCTURE}: 'block_circulant' stands twice; give its parameters as lists instead",
    ),
    "no kind": (
        Network,
        structure({"block_size": 4}),
        f"{STRUCTURE}: must be the name of a structure, or a table with kind, got {{'block_size': 4}}",
    ),
    "kind that is none": (
        Network,
        {"input_kernel": {"structure": 3}},
        f"{STRUCTURE}: must be the name of a structure, or a table with kind, got 3",
    ),
    "no kinds": (Network, structure(), f"{STRUCTURE}: is an empty list; give at least one structure"),
    "unknown parameter of a kind": (
        Network,
        structure({"kind": "block_circulant", "block_size": 4, "block": 2}),
        f"{STRUCTURE}.block_circulant.block: unknown key 'block'; did you mean 'block_size'? Known: block_size, kind",
    ),
    "refused parameter": (
        Network,
        structure({"kind": "block_circulant", "block_size": [4, 7]}),
        f"{STRUCTURE}.block_circulant.block_size: must be a power of two, got 7; use 1, 2, 4, 8, 16, ...",
    ),
    "impossible combination": (
        Network,
        structure(COARSE | {"level1_block": [4, 8], "level2_block": [2, 8]}),
        f"{STRUCTURE}.coarse_grain: level2_block must not exceed level1_block (4), got 8; use a smaller level2_block",
    ),
}


@pytest.mark.parametrize(("model", "table", "line"), FAULTS.values(), ids=FAULTS)
def test_a_fault_gives_its_one_line(model: type[BaseModel], table: Any, line: str) -> None:
    assert faults(model, table) == [f"space.toml: {line}"]


def test_several_faults_come_together() -> None:
    reader = Reader("space.toml")
    reader.tree(Network, {"cell": "rnn", "hiden": 8, "layers": 9} | structure("dens"), "network")
    with pytest.raises(InputError) as caught:
        reader.finish()
    paths = [fault.split(": ")[1] for fault in caught.value.faults]
    assert paths == ["network.hiden", "network.cell", "network.layers", "network.input_kernel.structure"]
    assert str(caught.value).splitlines() == list(caught.value.faults)


def test_a_faultless_table_passes() -> None:
    reader = Reader("space.toml")
    reader.tree(Network, {"hidden": [8, 16]}, "network")
    reader.finish()


def test_two_wrong_choices_are_not_called_the_same() -> None:
    lines = [f"space.toml: top.hidden: must be a valid integer, got '{name}'" for name in "ab"]
    assert faults(Network, {"hidden": ["a", "b"]}) == lines


@pytest.mark.parametrize(
    ("model", "field", "low", "high"), [(Network, "cell", "gru", "lstm"), (Accelerator, "kind", "dense", "serial_core")]
)
def test_a_range_of_names_is_refused(model: type[BaseModel], field: str, low: str, high: str) -> None:
    (line,) = faults(model, {field: {"low": low, "high": high}})
    assert line.startswith(f"space.toml: top.{field}: ")


def test_a_range_of_block_sizes_is_refused() -> None:
    (line,) = faults(Network, structure({"kind": "block_circulant", "block_size": {"low": 1, "high": 8}}))
    assert line.startswith(f"space.toml: {STRUCTURE}.block_circulant.block_size: ")


def test_a_fractional_step_of_a_whole_number_is_refused() -> None:
    (line,) = faults(Network, {"hidden": {"low": 8, "high": 64, "step": 0.5}})
    assert line.startswith("space.toml: top.hidden.step: ")


@pytest.mark.parametrize("value", [float("inf"), {"low": 1e-3, "high": float("inf")}], ids=["value", "range"])
def test_infinity_is_refused(value: Any) -> None:
    assert len(faults(Recipe, {"learning_rate": value})) == 1


def test_a_plain_value_is_fixed() -> None:
    assert {"hidden": 32, "cell": "lstm"}.items() <= tree(Network, {"hidden": 32, "cell": "lstm"}).items()


def test_a_list_is_a_choice_and_a_list_of_one_is_fixed() -> None:
    found = tree(Network, {"hidden": [32, 64], "layers": [2]})
    assert {"hidden": Choice((32, 64)), "layers": 2}.items() <= found.items()


def test_a_table_of_ends_is_a_range() -> None:
    found = tree(Recipe, {"learning_rate": {"low": 0.001, "high": 1, "log": True}})
    assert found["learning_rate"] == Range(0.001, 1.0, None, True)


@pytest.mark.parametrize(
    ("model", "table", "whole"),
    [
        (Network, {"hidden": {"low": 8, "high": 64, "step": 8}}, True),
        (Recipe, {"learning_rate": {"low": 1, "high": 2}}, False),
    ],
    ids=["whole", "fractions"],
)
def test_a_range_is_whole_where_its_field_is(model: type[BaseModel], table: Any, whole: bool) -> None:
    node = tree(model, table)[next(iter(table))]
    assert node.whole is whole


def test_a_kind_is_a_name_a_table_or_a_list_of_both() -> None:
    def members(value: Any) -> Any:
        return tree(Network, {"input_kernel": {"structure": value}})["input_kernel"]["structure"]

    circulant = {"kind": "block_circulant", "block_size": 4}
    assert members("dense") == Alternatives({"dense": {"kind": "dense"}})
    assert members(circulant) == Alternatives({"block_circulant": circulant})
    assert members(["dense", circulant]) == Alternatives({"dense": {"kind": "dense"}, "block_circulant": circulant})


SPACE: dict[str, Any] = {
    "hidden": {"low": 8, "high": 64, "step": 8},
    "layers": 2,
    "cell": ["gru", "lstm"],
    "input_kernel": {
        "structure": ["dense", COARSE | {"level1_keep": [0.25, 0.5]}],
        "weights": {"kind": "fixed", "bits": [4, 8]},
    },
    "activations": ["float", "fixed"],
}


def test_free_fields_have_dotted_names_with_the_kind_they_belong_to() -> None:
    found = dict(free(tree(Network, SPACE), "network"))
    assert {name: node for name, node in found.items() if not isinstance(node, Alternatives)} == {
        "network.cell": Choice(("gru", "lstm")),
        "network.hidden": Range(8, 64, 8, False),
        "network.input_kernel.structure.coarse_grain.level1_keep": Choice((0.25, 0.5)),
        "network.input_kernel.weights.fixed.bits": Choice((4, 8)),
    }
    kinds = {name: list(node.members) for name, node in found.items() if isinstance(node, Alternatives)}
    assert kinds == {
        "network.input_kernel.structure": ["dense", "coarse_grain"],
        "network.activations": ["float", "fixed"],
    }


def pick_with(answers: dict[str, Any], asked: list[str]) -> Any:
    def pick(name: str, node: Choice | Range) -> Any:
        asked.append(name)
        return answers[name]

    return pick


def test_a_resolved_space_is_a_record() -> None:
    answers = {
        "network.hidden": 24,
        "network.cell": "lstm",
        "network.input_kernel.structure": "coarse_grain",
        "network.input_kernel.structure.coarse_grain.level1_keep": 0.25,
        "network.input_kernel.weights.fixed.bits": 4,
        "network.activations": "float",
    }
    asked: list[str] = []
    network = Network.model_validate(resolve(tree(Network, SPACE), pick_with(answers, asked), "network"))
    assert set(asked) == set(answers)
    assert len(asked) == len(answers)
    assert (network.hidden, network.layers, network.cell) == (24, 2, "lstm")
    assert network.input_kernel.structure == CoarseGrain(**(COARSE | {"level1_keep": 0.25}))
    assert (network.input_kernel.weights, network.activations) == (Fixed(bits=4), Float())
    assert network.recurrent_kernel == Network().recurrent_kernel


def test_parameters_of_a_kind_that_was_not_taken_are_not_asked_for() -> None:
    answers = {
        "hidden": 24,
        "cell": "gru",
        "input_kernel.structure": "dense",
        "input_kernel.weights.fixed.bits": 8,
        "activations": "fixed",
    }
    asked: list[str] = []
    network = Network.model_validate(resolve(tree(Network, SPACE), pick_with(answers, asked), ""))
    assert sorted(asked) == sorted(answers)
    assert network.input_kernel.structure == Dense()


def test_kinds_are_offered_as_a_choice_of_their_names() -> None:
    offered = {}

    def first(name: str, node: Choice | Range) -> Any:
        offered[name] = node
        return node.values[0] if isinstance(node, Choice) else node.low

    resolve(tree(Network, SPACE), first, "")
    assert offered["input_kernel.structure"] == Choice(("dense", "coarse_grain"))
    assert offered["activations"] == Choice(("float", "fixed"))


def test_a_tree_without_free_fields_is_its_values() -> None:
    values = tree_values(tree(Network, {"hidden": 8, "activations": "float"}))
    assert values == Network(hidden=8, activations=Float()).model_dump()


def test_a_fixed_record_is_read_at_once() -> None:
    reader = Reader("design.toml")
    network = reader.fixed(Network, {"hidden": 8} | structure(COARSE), "network")
    reader.finish()
    assert network == Network(hidden=8, input_kernel={"structure": COARSE})


def test_free_fields_are_refused_where_one_value_is_needed() -> None:
    reader = Reader("design.toml")
    assert reader.fixed(Network, {"hidden": [8, 16]} | structure("dense", COARSE), "network") is None
    assert reader.faults == [
        f"design.toml: {path}: must be one value here, got a list or a range"
        for path in ("network.hidden", "network.input_kernel.structure")
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "no such file"),
        (b"\xff\xfe", "is not text; a TOML file in UTF-8 is expected"),
        (b"a = \n", "is not valid TOML: "),
        (b"a = 1\na = 2\n", "is not valid TOML: "),
    ],
    ids=["missing", "binary", "broken", "key twice"],
)
def test_a_file_that_cannot_be_read_gives_one_line(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "space.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: {text}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_is_not_a_search_space(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_toml(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read (Is a directory)"
