"""`codesign methods` against what the fields of a network accept, whether or not anybody put it in a list."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import codesign.compression
from codesign.cli.main import main
from codesign.compression import Structure, TensorStructure
from codesign.design import ActivationFunction, BatchNorm, NumberFormat, WeightFormat


def members(annotated: Any) -> set[type[BaseModel]]:
    """The classes of which a field holds one: A, B and C of Annotated[A | B | C, ...]."""
    return set(get_args(get_args(annotated)[0]))


def subclasses(base: type[BaseModel]) -> set[type[BaseModel]]:
    """The final subclasses in the files of codesign.compression."""
    names = [f"codesign.compression.{info.name}" for info in iter_modules(codesign.compression.__path__)]
    found = (value for name in names for value in vars(import_module(name)).values() if isinstance(value, type))
    return {kind for kind in found if issubclass(kind, base) and kind is not base}


FAMILIES = {
    "structure": subclasses(Structure),
    "tensor structure": subclasses(TensorStructure),
    "weight format": members(WeightFormat),
    "number format": members(NumberFormat),
    "activation function": members(ActivationFunction),
    "batch normalisation": members(BatchNorm),
}
KINDS = dict(
    sorted(
        {(family, kind.model_fields["kind"].default): kind for family in FAMILIES for kind in FAMILIES[family]}.items()
    )
)


@pytest.fixture
def rows(capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """(family, kind) of every line, and its other two columns: parameters and what it is."""
    assert main(["methods"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    begins = [heading.index(f" {name}") + 1 for name in ("kind", "parameters", "what")]
    cells = [[line[a:b].strip() for a, b in zip([0, *begins], [*begins, None], strict=True)] for line in lines]
    return {(family, kind): (parameters, what) for family, kind, parameters, what in cells}


def test_every_kind_that_a_network_may_be_made_of_has_a_line_and_nothing_else_has(rows):
    assert rows.keys() == KINDS.keys()
    assert {kind for family, kind in rows if "structure" in family} >= {"coarse_grain", "tensor_train"}
    assert {kind for family, kind in rows if family == "weight format"} >= {"float", "power_of_two", "ternary"}


@pytest.mark.parametrize("place", KINDS, ids=" ".join)
def test_a_line_names_all_parameters_and_is_not_cut(place, rows):
    parameters, what = rows[place]
    assert parameters == ", ".join(name for name in KINDS[place].model_fields if name != "kind")
    assert what == (KINDS[place].__doc__ or "").splitlines()[0] != ""
