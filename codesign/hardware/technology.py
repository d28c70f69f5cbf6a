"""FPGA parts and ASIC nodes, and what an operation costs in them.

Every constant carries a tag that says how far to trust it: V verified in a published page, C read
in code, S simulated, D derived by arithmetic from the others, M+ recalled and confirmed by an
identity, M recalled, M- recalled with low confidence, calibrated = set from one published row.

Energy. Integer operations at 45 nm and 0.9 V follow Horowitz ("Computing's energy problem", ISSCC
2014): a multiplication grows as a power of the product of both word lengths (0.99, through its two
points), an addition linearly with its width. They are brought to 65 nm by the mean ratio of CACTI 7
read energies, 1.75; L * V^2 from 0.9 V to 1.0 V gives 1.78. Clock tree, wires and registers between
the operations are not modelled, nor is leakage of logic or memory (CACTI puts 512 KiB at 0.18 mW).

FPGA energy is the same table times ONE factor, which makes it agree with one published row: C-LSTM,
block size 8, on an ADM-PCIE-7V3 board, 22 W. That is *board* power - static power, host interface
and the fabric's overhead are all in the factor - and one row cannot test itself, so FPGA energies
rank designs and carry no error claim. No static power is modelled apart: our sources give none.
"""

from dataclasses import dataclass
from math import log

import numpy as np

from codesign.errors import InputError, unknown
from codesign.hardware.cost import Array
from codesign.hardware.memory import RAMB18_BITS, SRAM_65NM, Constant

_ENERGY = "Horowitz, ISSCC 2014, 45 nm, 0.9 V"
MULTIPLY_8_J = Constant(0.2e-12, "J", _ENERGY, "C")
MULTIPLY_32_J = Constant(3.1e-12, "J", _ENERGY, "C")
ADD_8_J = Constant(0.03e-12, "J", _ENERGY, "C")
ADD_32_J = Constant(0.1e-12, "J", _ENERGY, "C")

MULTIPLY_8_MM2 = Constant(282e-6, "mm2", _ENERGY, "M")
MULTIPLY_32_MM2 = Constant(3495e-6, "mm2", _ENERGY, "M")
ADD_8_MM2 = Constant(36e-6, "mm2", _ENERGY, "M")
ADD_32_MM2 = Constant(137e-6, "mm2", _ENERGY, "M")

ENERGY_45_TO_65 = Constant(1.75, "1", "geometric mean of CACTI 7 read energies, 65 over 45 nm, five sizes", "D")
AREA_45_TO_65 = Constant((65 / 45) ** 2, "1", "square of the feature size", "D")

_BOARD = "Wang et al., C-LSTM, FPGA 2018, block size 8 on ADM-PCIE-7V3 (XC7VX690T)"
BOARD_POWER = Constant(22.0, "W", _BOARD, "M+")
BOARD_FRAMES = Constant(179_687.0, "frames/s", _BOARD, "M+")
BOARD_PRODUCTS = Constant(51_200.0, "block products/frame", "4*(1024/8)*(672/8) + (512/8)*(1024/8)", "D")
BOARD_WORD = Constant(16.0, "bit", _BOARD, "V")
BOARD_BLOCK = Constant(8.0, "weights/block", _BOARD, "V")


@dataclass(frozen=True)
class Operations:
    """Prices of operations: the 65 nm table times `factor`.

    Attributes:
        factor: 1 on an ASIC; on an FPGA what one board's power demands.
        memory_bits: size that every memory is priced at; None prices each at its own size. FPGA
            memories are built of blocks, so that a larger one takes more blocks, not a larger one.
    """

    factor: float = 1.0
    memory_bits: float | None = None

    def multiply_j(self, bits_a: float, bits_b: float) -> float:
        """Energy of one integer multiplication [J]."""
        exponent = log(MULTIPLY_32_J.value / MULTIPLY_8_J.value) / log(32 * 32 / (8 * 8))
        energy = MULTIPLY_8_J.value * (bits_a * bits_b / (8 * 8)) ** exponent
        return float(energy * ENERGY_45_TO_65.value * self.factor)

    def add_j(self, bits: float) -> float:
        """Energy of one integer addition [J]."""
        energy = _line(bits, ADD_8_J, ADD_32_J)
        return energy * ENERGY_45_TO_65.value * self.factor

    def read_j(self, memory_bits: Array) -> Array:
        """Energy of reading (or writing) one bit of a memory of that many bits [J/bit]."""
        size = memory_bits if self.memory_bits is None else np.full_like(memory_bits, self.memory_bits)
        return SRAM_65NM.read_j(size) * self.factor


def _line(bits: float, at_8: Constant, at_32: Constant) -> float:
    return at_8.value + (at_32.value - at_8.value) * (bits - 8) / (32 - 8)


def multiply_mm2(bits_a: float, bits_b: float) -> float:
    """Area of an integer multiplier at 65 nm [mm2]."""
    exponent = log(MULTIPLY_32_MM2.value / MULTIPLY_8_MM2.value) / log(32 * 32 / (8 * 8))
    return float(MULTIPLY_8_MM2.value * (bits_a * bits_b / (8 * 8)) ** exponent * AREA_45_TO_65.value)


def add_mm2(bits: float) -> float:
    """Area of an integer adder at 65 nm [mm2]."""
    return _line(bits, ADD_8_MM2, ADD_32_MM2) * AREA_45_TO_65.value


def board_factor() -> Constant:
    """Measured board energy of a block product over its table price.

    A block product of size k in the frequency domain multiplies k/2 + 1 spectral bins, two of them
    real: (k/2 - 1) * 4 + 2 real multiplications. A complex product adds twice within itself, and
    every bin is accumulated: (k/2 - 1) * (2 + 2) + 2 additions. It reads k weight words. Transforms
    (one a block row or column, under 3 % of the multiplications) and element-wise work are left out.
    """
    word, block = BOARD_WORD.value, BOARD_BLOCK.value
    n_real = (block / 2 - 1) * 4 + 2
    table = Operations(memory_bits=RAMB18_BITS)
    arithmetic = n_real * (table.multiply_j(word, word) + table.add_j(2 * word))
    reads = block * word * float(table.read_j(np.array([RAMB18_BITS]))[0])
    measured = BOARD_POWER.value / BOARD_FRAMES.value / BOARD_PRODUCTS.value
    return Constant(measured / (arithmetic + reads), "1", _BOARD, "calibrated")


@dataclass(frozen=True)
class FpgaPart:
    """What a part has [counts], and the clock a design is believed to reach at most [Hz]."""

    name: str
    family: str
    node_nm: int
    lut: int
    ff: int
    dsp: int
    bram18: int
    source: str
    tag: str
    max_clock_hz: float
    clock_source: str
    clock_tag: str

    caveat = "FPGA energy is calibrated on one published board power (C-LSTM on 7V3); its error is not known"

    @property
    def operations(self) -> Operations:
        """Prices of operations in the fabric."""
        return Operations(factor=board_factor().value, memory_bits=RAMB18_BITS)


@dataclass(frozen=True)
class AsicNode:
    """A standard-cell process and the clock a design is believed to reach at most [Hz]."""

    name: str
    node_nm: int
    source: str
    tag: str
    max_clock_hz: float
    clock_source: str
    clock_tag: str

    caveat = "ASIC energy and area are those of operations and memories; wires, clock, control are missing"

    @property
    def operations(self) -> Operations:
        """Prices of operations."""
        return Operations()


Technology = FpgaPart | AsicNode


def _part(
    name: str,
    family: str,
    node_nm: int,
    counts: tuple[int, int, int, int],
    sheet: str,
    clock: tuple[float, str],
) -> FpgaPart:
    clock_source = f"block RAM limit of the slowest speed grade, rounded down; AMD {clock[1]}"
    return FpgaPart(name, family, node_nm, *counts, f"AMD {sheet}", "M+", clock[0], clock_source, "M")


TECHNOLOGIES: dict[str, Technology] = {
    part.name: part
    for part in (
        _part("xc7vx690t", "7-series", 28, (433_200, 866_400, 3_600, 2_940), "DS180", (400e6, "DS183")),
        _part("xcku060", "UltraScale", 20, (331_680, 663_360, 2_760, 2_160), "DS890", (500e6, "DS892")),
        _part("xc7z020", "7-series", 28, (53_200, 106_400, 220, 280), "DS190", (350e6, "DS187")),
        _part("xczu9eg", "UltraScale+", 16, (274_080, 548_160, 2_520, 1_824), "DS891", (600e6, "DS925")),
        _part("xc7a100t", "7-series", 28, (63_400, 126_800, 240, 270), "DS180", (350e6, "DS181")),
        AsicNode(
            name="asic65",
            node_nm=65,
            source="CACTI 7 ITRS-LSTP memories; Horowitz, ISSCC 2014, scaled from 45 nm",
            tag="D",
            max_clock_hz=400e6,
            clock_source="Ardakani et al., ICLR 2019: LSTM engines at 65 nm and 400 MHz",
            clock_tag="M",
        ),
    )
}
"""Known parts and nodes by name."""


def technology(name: str) -> Technology:
    """The part or node of that name."""
    if name not in TECHNOLOGIES:
        raise InputError(unknown("technology", name, TECHNOLOGIES))
    return TECHNOLOGIES[name]
