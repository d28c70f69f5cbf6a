"""Products without a multiplier, counted cell by cell."""

from typing import Any

import numpy as np
import pytest

from codesign.design import Binary, Fixed, Kernel, Network, PowerOfTwo, TaskShape, Ternary
from codesign.hardware.accelerators import products
from codesign.hardware.accelerators.lanes import accumulator_bits
from codesign.hardware.accelerators.products import (
    head_macs_j,
    head_rows,
    product_j,
    product_lut,
    product_mm2,
    sum_bits,
)
from codesign.hardware.technology import Operations
from codesign.hardware.workload import Workload, workload

AT_45 = Operations(node_nm=45)
# widths of the cells of one library [um]; all are 1.4 um high
FULL_ADDER, XOR, AND, MUX = 3.04, 1.14, 0.76, 1.33


def near(expected: float) -> Any:
    """Equal but for rounding; pytest's own absolute tolerance would pass anything of a picojoule."""
    return pytest.approx(expected, rel=1e-9, abs=0.0)


@pytest.mark.parametrize(
    ("number_format", "weight_bits", "cells"),
    [
        ("binary", 1, 8 * XOR),
        ("ternary", 2, 8 * (XOR + AND)),
        ("power_of_two", 4, 8 * XOR + 3 * (8 + 4) * MUX),
    ],
)
def test_a_product_is_so_many_cells(number_format: str, weight_bits: int, cells: float) -> None:
    adders = cells / FULL_ADDER
    assert product_mm2(number_format, weight_bits, 8, AT_45) == near(AT_45.add_mm2(adders))
    assert product_j(number_format, weight_bits, 8, AT_45) == near(AT_45.add_j(adders))


def test_a_row_of_cells_has_the_size_of_the_cells() -> None:
    """The adder of the operations' table is as large as a row of this library's full adders."""
    assert AT_45.add_mm2(32) == pytest.approx(32 * FULL_ADDER * 1.4e-6, rel=0.01)


def test_fixed_point_words_take_a_multiplier() -> None:
    assert product_j("fixed", 8, 8, AT_45) == AT_45.multiply_j(8, 8)
    assert product_mm2("fixed", 8, 8, AT_45) == AT_45.multiply_mm2(8, 8)


def test_shifters_alone_take_look_up_tables_of_their_own() -> None:
    assert [product_lut(kind, bits, 8) for kind, bits in (("fixed", 8), ("binary", 1), ("ternary", 2))] == [0, 0, 0]
    assert product_lut("power_of_two", 4, 8) == 2 * (8 + 4)
    assert product_lut("power_of_two", 5, 8) == 2 * (8 + 5)


def counted(weights: Binary | Ternary | PowerOfTwo) -> Workload:
    kernel = Kernel(weights=weights)
    network = Network(hidden=64, input_kernel=kernel, recurrent_kernel=kernel, head_weights=Fixed(bits=12))
    return workload(network, TaskShape(16, 5))


def test_a_row_of_the_output_layer_is_a_row_for_each_bit_where_nothing_multiplies() -> None:
    work = counted(Binary())
    assert (head_rows(work, True), head_rows(work, False)) == (5, 5 * 12)
    # 8-bit activations: 1-bit weights over 16 + 64 columns, against 12-bit words over 64
    assert (sum_bits(work, False), sum_bits(work, True)) == (8 + 1 + 7, 8 + 12 + 6)
    assert sum_bits(work, True) == accumulator_bits(work)


def test_energy_of_the_output_layer() -> None:
    work = counted(Ternary())
    bit = product_j("ternary", 1, 8, AT_45) + AT_45.add_j(8 + 2 + 7)
    assert head_macs_j(work, False, AT_45) == near(5 * 12 * 64 * bit)
    assert head_macs_j(work, True, AT_45) == near(5 * 64 * (AT_45.multiply_j(12, 8) + AT_45.add_j(8 + 12 + 6)))


@pytest.mark.parametrize(
    ("name", "number_format"), [("SIGN", "binary"), ("GATE", "ternary"), ("STAGE", "power_of_two")]
)
def test_every_cell_matters(name: str, number_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = np.array([price(number_format, 4, 8, AT_45) for price in (product_j, product_mm2)])
    constant = getattr(products, name)
    monkeypatch.setattr(products, name, type(constant)(2 * constant.value, "", "", "C"))
    assert (np.array([price(number_format, 4, 8, AT_45) for price in (product_j, product_mm2)]) > before).all()
