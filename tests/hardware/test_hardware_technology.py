"""Constants, their interpolation, and the calibration of FPGA energy."""

from importlib import import_module
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import InputError
from codesign.hardware.accelerators.lanes import FF_FIT, LUT_FIT, FabricFit
from codesign.hardware.memory import (
    LEAKAGE_W,
    MACRO_MM2,
    RAMB18_BITS,
    READ_J,
    REFERENCE_PORT,
    Constant,
    Memory,
    Sram,
    SramFit,
)
from codesign.hardware.technology import (
    NOMINAL_V,
    TECHNOLOGIES,
    AsicNode,
    FpgaPart,
    Operations,
    board_factor,
    energy_scale,
    technology,
)

TAGS = {"V", "C", "S", "D", "M+", "M", "M-", "calibrated"}


def constants() -> dict[str, Constant]:
    module = import_module("codesign.hardware.technology")
    found = {name: value for name, value in vars(module).items() if isinstance(value, Constant)}
    supplies = {f"NOMINAL_V at {node} nm": value for node, value in NOMINAL_V.items()}
    return found | supplies | {"board_factor": board_factor()}


def memory(width: float, depth: float, copies: int = 1) -> Memory:
    return Memory(np.array([width]), np.array([depth]), copies)


def of_bytes(size: float, port: float = REFERENCE_PORT) -> Memory:
    return memory(port, size * 8 / port)


@pytest.mark.parametrize("name", sorted(constants()))
def test_every_constant_has_unit_source_and_tag(name: str) -> None:
    constant = constants()[name]
    assert constant.value > 0 and constant.unit and constant.source and constant.tag in TAGS


@pytest.mark.parametrize("name", sorted(TECHNOLOGIES))
def test_every_technology_has_source_and_tag(name: str) -> None:
    part = technology(name)
    assert part.name == name and part.source and part.clock_source and part.max_clock_hz > 0
    assert {part.tag, part.clock_tag} <= TAGS


FITS = {"read": READ_J, "area": MACRO_MM2, "leakage": LEAKAGE_W, "ff": FF_FIT, "lut": LUT_FIT}


@pytest.mark.parametrize("table", FITS.values(), ids=FITS)
def test_every_fit_has_source_and_tag(table: SramFit | FabricFit) -> None:
    assert table.source and table.tag in TAGS


def test_an_unknown_technology_offers_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown technology 'xc7z02'; did you mean 'xc7z020'"):
        technology("xc7z02")


@pytest.mark.parametrize("name", ["asic16", "asic130", "asic0"])
def test_nodes_are_not_extrapolated(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: nothing is known outside 90 to 22 nm, and nothing is extrapolated"):
        technology(name)


def test_a_node_between_two_simulated_ones_lies_between_them() -> None:
    node = technology("asic40")
    assert isinstance(node, AsicNode) and node.name == "asic40"
    low, high = technology("asic22"), technology("asic45")
    assert low.operations.multiply_j(8, 8) < node.operations.multiply_j(8, 8) < high.operations.multiply_j(8, 8)
    assert high.max_clock_hz < node.max_clock_hz < low.max_clock_hz


@pytest.mark.parametrize("node", [90, 65, 45, 28, 22])
def test_energies_are_those_of_the_source_at_its_widths(node: float) -> None:
    table, scale = Operations(node_nm=node), energy_scale(node)
    assert energy_scale(45) == pytest.approx(1.0)
    assert table.multiply_j(8, 8) == pytest.approx(0.2e-12 * scale, rel=1e-9, abs=0.0)
    assert table.multiply_j(32, 32) == pytest.approx(3.1e-12 * scale, rel=1e-9, abs=0.0)
    assert table.add_j(8) == pytest.approx(0.03e-12 * scale, rel=1e-9, abs=0.0)
    # the source's own third point, not used by the line
    assert table.add_j(16) == pytest.approx(0.05e-12 * scale, rel=0.07, abs=0.0)


def test_areas_are_those_of_the_source_at_its_widths() -> None:
    table = Operations(node_nm=65)
    assert table.multiply_mm2(8, 8) == pytest.approx(282e-6 * (65 / 45) ** 2)
    assert table.add_mm2(32) == pytest.approx(137e-6 * (65 / 45) ** 2)
    assert table.add_mm2(16) == pytest.approx(67e-6 * (65 / 45) ** 2, rel=0.1)


def test_longer_words_cost_more() -> None:
    table, widths = Operations(), range(3, 33)
    multiply = [table.multiply_j(8, bits) for bits in widths]
    add = [table.add_j(bits) for bits in widths]
    assert min(np.diff(multiply)) > 0 and min(np.diff(add)) > 0 and add[0] > 0


def test_node_scaling_is_the_mean_ratio_of_sram_reads() -> None:
    pj_45 = (3.86521, 13.4215, 29.8885, 45.8316, 82.1762, 116.059)  # CACTI 7, 45 nm
    pj_65 = (7.04639, 18.151, 54.4283, 82.0583, 151.705, 233.886)
    ratios = [log(at_65 / at_45) for at_65, at_45 in zip(pj_65, pj_45, strict=True)]
    assert exp(np.mean(ratios)) == pytest.approx(energy_scale(65), rel=0.01)


# CACTI 7, ITRS-LSTP: node, bytes, port bits, read pJ, mm2, leakage mW
SIMULATED = [
    (90, 4096, 64, 13.2383, 0.0599828, 0.00102959),
    (90, 65536, 128, 145.468, 0.848722, 0.0132305),
    (90, 524288, 128, 414.882, 7.24929, 0.100851),
    (65, 16384, 64, 18.151, 0.114479, 0.00675165),
    (65, 65536, 64, 54.4283, 0.492052, 0.0232664),
    (65, 65536, 128, 82.0583, 0.442626, 0.0231361),
    (65, 262144, 128, 151.705, 2.03901, 0.0925442),
    (45, 16384, 64, 13.4215, 0.0569936, 0.00454947),
    (45, 524288, 128, 116.059, 2.04475, 0.127559),
    (22, 4096, 64, 1.35874, 0.0039481, 0.00122097),
    (22, 65536, 128, 10.5113, 0.0616583, 0.016114),
    (22, 262144, 128, 20.129, 0.264232, 0.0644558),
]


@pytest.mark.parametrize(("node", "size", "port", "pj", "mm2", "mw"), SIMULATED)
def test_sram_fits_the_simulations_as_well_as_it_says(
    node: int, size: int, port: int, pj: float, mm2: float, mw: float
) -> None:
    macro, here = of_bytes(size, port), Sram(node)
    assert here.read_j(macro)[0] * port * 1e12 == pytest.approx(pj, rel=READ_J.worst)
    assert here.area_mm2(macro)[0] == pytest.approx(mm2, rel=MACRO_MM2.worst)
    assert here.leakage_w(macro)[0] * 1e3 == pytest.approx(mw, rel=LEAKAGE_W.worst)


@pytest.mark.parametrize("fit", [READ_J, MACRO_MM2, LEAKAGE_W], ids=["read", "area", "leakage"])
def test_the_errors_that_a_fit_states_are_not_wider_than_need_be(fit: SramFit) -> None:
    column = {READ_J: 3, MACRO_MM2: 4, LEAKAGE_W: 5}[fit]
    unit = {READ_J: 1e-12, MACRO_MM2: 1.0, LEAKAGE_W: 1e-3}[fit]
    errors = [
        fit.of(row[0], np.array([row[1] * 8.0]), np.array([float(row[2])]))[0] / (row[column] * unit) - 1
        for row in SIMULATED
    ]
    assert 0.4 * fit.worst < max(map(abs, errors)) < fit.worst
    assert fit.rms < fit.worst < 0.26


@given(node=st.floats(22, 89.9), size=st.floats(64, 2**22), port=st.floats(4, 2048))
def test_sram_grows_smoothly_with_node_size_and_port(node: float, size: float, port: float) -> None:
    here, above = Sram(node), Sram(min(90.0, 1.001 * node))
    macro, larger, wider = of_bytes(size, port), of_bytes(1.001 * size, port), of_bytes(size, 1.001 * port)
    for figure in ("read_j", "area_mm2"):
        value = getattr(here, figure)(macro)[0]
        assert 1.0 < getattr(above, figure)(macro)[0] / value < 1.01
        assert 1.0 < getattr(here, figure)(larger)[0] / value < 1.01
    # an access through a wider port takes more, a bit of it less
    assert 1.0 <= wider.width[0] * here.read_j(wider)[0] / (macro.width[0] * here.read_j(macro)[0]) < 1.01
    assert here.read_j(wider)[0] <= here.read_j(macro)[0]
    assert 1.0 < here.leakage_w(larger)[0] / here.leakage_w(macro)[0] < 1.01


def test_an_empty_memory_is_nothing() -> None:
    assert Sram(65).area_mm2(memory(8, 0))[0] == 0 == Sram(65).leakage_w(memory(8, 0))[0]


@given(low=st.floats(0.51, 1.9), more=st.floats(1.001, 1.5))
def test_a_higher_supply_allows_a_higher_clock(low: float, more: float) -> None:
    node = technology("asic65")
    assert isinstance(node, AsicNode)
    assert node.clock_at(np.array([low]))[0] < node.clock_at(np.array([low * more]))[0]
    assert node.clock_at(np.array([node.nominal_v]))[0] == pytest.approx(node.max_clock_hz)
    assert node.clock_at(np.array([0.4]))[0] == 0


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
    read_bit = Sram(65).read_j(memory(64, RAMB18_BITS / 64))[0]
    priced = real_multiplications * table.multiply_j(16, 16) + real_additions * table.add_j(32) + 10 * 16 * read_bit
    assert board_factor().value == pytest.approx(measured / priced)
    assert board_factor().tag == "calibrated"
    assert 50 < board_factor().value < 100


def test_fpga_memories_are_priced_as_blocks() -> None:
    part, node = technology("xc7z020"), technology("asic65")
    assert isinstance(part, FpgaPart) and isinstance(node, AsicNode)
    sizes = Memory(np.full(2, 16.0), np.array([1e3, 1e5]))
    assert np.ptp(part.operations.read_j(sizes)) == 0 and np.ptp(node.operations.read_j(sizes)) > 0
