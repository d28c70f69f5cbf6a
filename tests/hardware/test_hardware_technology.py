"""Constants, their interpolation, and the calibration of FPGA energy."""

from importlib import import_module
from math import exp, log
from typing import Any

import numpy as np
import pytest

from codesign.errors import InputError
from codesign.hardware.accelerators.lanes import FF_FIT, LUT_FIT, FabricFit
from codesign.hardware.memory import RAMB18_BITS, SRAM_65NM, Constant, Memory, SramTable
from codesign.hardware.technology import (
    ENERGY_45_TO_65,
    TECHNOLOGIES,
    AsicNode,
    FpgaPart,
    Operations,
    add_mm2,
    board_factor,
    multiply_mm2,
    technology,
)

TAGS = {"V", "C", "S", "D", "M+", "M", "M-", "calibrated"}


def constants() -> dict[str, Constant]:
    module = import_module("codesign.hardware.technology")
    found = {name: value for name, value in vars(module).items() if isinstance(value, Constant)}
    return found | {"board_factor": board_factor()}


@pytest.mark.parametrize("name", sorted(constants()))
def test_every_constant_has_unit_source_and_tag(name: str) -> None:
    constant = constants()[name]
    assert constant.value > 0 and constant.unit and constant.source and constant.tag in TAGS


@pytest.mark.parametrize("name", sorted(TECHNOLOGIES))
def test_every_technology_has_source_and_tag(name: str) -> None:
    part = technology(name)
    assert part.name == name and part.source and part.clock_source and part.max_clock_hz > 0
    assert {part.tag, part.clock_tag} <= TAGS


@pytest.mark.parametrize("table", [SRAM_65NM, FF_FIT, LUT_FIT], ids=["sram", "ff", "lut"])
def test_every_table_has_source_and_tag(table: SramTable | FabricFit) -> None:
    assert table.source and table.tag in TAGS


def test_an_unknown_technology_offers_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown technology 'xc7z02'; did you mean 'xc7z020'"):
        technology("xc7z02")


def test_energies_are_those_of_the_source_at_its_widths() -> None:
    table = Operations()
    scale = ENERGY_45_TO_65.value
    assert table.multiply_j(8, 8) == pytest.approx(0.2e-12 * scale)
    assert table.multiply_j(32, 32) == pytest.approx(3.1e-12 * scale)
    assert table.add_j(8) == pytest.approx(0.03e-12 * scale)
    # the source's own third point, not used by the line
    assert table.add_j(16) == pytest.approx(0.05e-12 * scale, rel=0.07)


def test_areas_are_those_of_the_source_at_its_widths() -> None:
    assert multiply_mm2(8, 8) == pytest.approx(282e-6 * (65 / 45) ** 2)
    assert add_mm2(32) == pytest.approx(137e-6 * (65 / 45) ** 2)
    assert add_mm2(16) == pytest.approx(67e-6 * (65 / 45) ** 2, rel=0.1)


def test_longer_words_cost_more() -> None:
    table, widths = Operations(), range(3, 33)
    multiply = [table.multiply_j(8, bits) for bits in widths]
    add = [table.add_j(bits) for bits in widths]
    assert min(np.diff(multiply)) > 0 and min(np.diff(add)) > 0 and add[0] > 0


def test_node_scaling_is_the_mean_ratio_of_sram_reads() -> None:
    pj_45 = (3.86521, 13.4215, 45.8316, 82.1762, 116.059)  # CACTI 7, 45 nm, the sizes of SRAM_65NM
    ratios = [at_65 / at_45 for at_65, at_45 in zip(SRAM_65NM.read_pj, pj_45, strict=True)]
    assert exp(np.mean([log(ratio) for ratio in ratios])) == pytest.approx(ENERGY_45_TO_65.value, rel=0.01)


def test_sram_reproduces_its_table() -> None:
    bits = np.array(SRAM_65NM.size_bytes) * 8.0
    ports = np.array(SRAM_65NM.port_bits)
    np.testing.assert_allclose(SRAM_65NM.read_j(bits) * ports * 1e12, SRAM_65NM.read_pj, rtol=1e-9)
    np.testing.assert_allclose(SRAM_65NM.area_mm2(bits), SRAM_65NM.macro_mm2, rtol=1e-9)


@pytest.mark.parametrize("left_out", [1, 2, 3])
def test_sram_interpolation_error_is_as_documented(left_out: int) -> None:
    def without(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return values[:left_out] + values[left_out + 1 :]

    fewer = SramTable(
        size_bytes=without(SRAM_65NM.size_bytes),
        port_bits=without(SRAM_65NM.port_bits),
        read_pj=without(SRAM_65NM.read_pj),
        macro_mm2=without(SRAM_65NM.macro_mm2),
        source="the table without one size",
        tag="D",
    )
    bits = np.array([SRAM_65NM.size_bytes[left_out] * 8.0])
    assert fewer.read_j(bits)[0] == pytest.approx(SRAM_65NM.read_j(bits)[0], rel=0.10)
    assert fewer.area_mm2(bits)[0] == pytest.approx(SRAM_65NM.area_mm2(bits)[0], rel=0.11)


def test_sram_grows_with_size_beyond_both_ends() -> None:
    bits = np.geomspace(8, 8 * 2**24, 200)
    assert (np.diff(SRAM_65NM.read_j(bits)) > 0).all() and (np.diff(SRAM_65NM.area_mm2(bits)) > 0).all()
    assert SRAM_65NM.area_mm2(np.zeros(1))[0] == 0


@pytest.mark.parametrize(
    ("width", "depth", "blocks"),
    [(16, 1280, 2), (128, 1280, 12), (24, 2048, 3), (18, 256, 1), (18, 128, 0), (8, 2560, 2)],
)
def test_block_ram_takes_the_best_shape(width: int, depth: int, blocks: int) -> None:
    assert Memory(np.array([float(width)]), np.array([float(depth)])).bram18[0] == blocks


def test_the_board_factor_follows_from_the_published_row() -> None:
    # C-LSTM, k = 8, 7V3: 22 W at 179,687 frames/s of 51,200 block products, 16-bit words
    measured = 22.0 / 179_687 / 51_200
    table = Operations()
    real_multiplications = 2 * 1 + 3 * 4  # bins 0 and 4 are real, bins 1 to 3 complex
    real_additions = 3 * 2 + 2 * 1 + 3 * 2  # within complex products, then accumulated
    read_bit = SRAM_65NM.read_j(np.array([float(RAMB18_BITS)]))[0]
    priced = real_multiplications * table.multiply_j(16, 16) + real_additions * table.add_j(32) + 8 * 16 * read_bit
    assert board_factor().value == pytest.approx(measured / priced)
    assert board_factor().tag == "calibrated"
    assert 50 < board_factor().value < 100


def test_fpga_memories_are_priced_as_blocks() -> None:
    part, node = technology("xc7z020"), technology("asic65")
    assert isinstance(part, FpgaPart) and isinstance(node, AsicNode)
    sizes = np.array([1e4, 1e6])
    assert np.ptp(part.operations.read_j(sizes)) == 0 and np.ptp(node.operations.read_j(sizes)) > 0
