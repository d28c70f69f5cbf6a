"""FPGA parts and ASIC nodes, and what an operation costs in them.

Every constant carries a tag that says how far to trust it: V verified in a published page, C read
in code, S simulated, D derived by arithmetic from the others, M+ recalled and confirmed by an
identity, M recalled, M- recalled with low confidence, calibrated = set from one published row.

Energy. Integer operations at 45 nm and 0.9 V follow Horowitz ("Computing's energy problem", ISSCC
2014): a multiplication grows as a power of the product of both word lengths (0.99, through its two
points), an addition linearly with its width. They are brought to another node by the ratio of CACTI
7 read energies there and at 45 nm (65 nm: 1.76; L * V^2 from 0.9 V to 1.0 V gives 1.78), and their area by
the square of the feature size. Clock tree, wires and registers between the operations are not modelled, nor
is leakage of logic; that of memories is.

Supply. At another voltage than the node's nominal one, energy goes with V^2, leakage with V, and the highest
clock with (V - Vt)^alpha / V (Sakurai and Newton, JSSC 1990).

FPGA energy is the table of 65 nm times ONE factor, which makes it agree with one published row: C-LSTM,
block size 8, on an ADM-PCIE-7V3 board, 22 W. That is *board* power - static power, host interface
and the fabric's overhead are all in the factor - and one row cannot test itself, so FPGA energies
rank designs and carry no error claim. No static power is modelled apart: our sources give none.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from math import log

import numpy as np

from codesign.errors import InputError, unknown
from codesign.hardware.cost import Array
from codesign.hardware.memory import NEWEST_NM, OLDEST_NM, RAMB18_BITS, READ_J, Constant, Memory, Sram

_ENERGY = "Horowitz, ISSCC 2014, 45 nm, 0.9 V"
MULTIPLY_8_J = Constant(0.2e-12, "J", _ENERGY, "C")
MULTIPLY_32_J = Constant(3.1e-12, "J", _ENERGY, "C")
ADD_8_J = Constant(0.03e-12, "J", _ENERGY, "C")
ADD_32_J = Constant(0.1e-12, "J", _ENERGY, "C")

MULTIPLY_8_MM2 = Constant(282e-6, "mm2", _ENERGY, "M")
MULTIPLY_32_MM2 = Constant(3495e-6, "mm2", _ENERGY, "M")
ADD_8_MM2 = Constant(36e-6, "mm2", _ENERGY, "M")
ADD_32_MM2 = Constant(137e-6, "mm2", _ENERGY, "M")
OPERATIONS_NM = 45

DRAM_J = Constant(1300e-12 / 64, "J/bit", "Horowitz, ISSCC 2014: 1.3 nJ for 64 bits, the lower end", "M")
"""Energy of moving one bit in from memory outside the chip."""

THRESHOLD_V = Constant(0.5, "V", "threshold voltage of low-standby-power transistors", "M")
ALPHA = Constant(1.3, "1", "Sakurai and Newton, JSSC 1990: velocity saturation of short channels", "M")
NOMINAL_V = {
    90: Constant(1.2, "V", "usual supply of the low-power process", "M"),
    65: Constant(1.2, "V", "usual supply of the low-power process", "M"),
    45: Constant(1.1, "V", "usual supply of the low-power process", "M"),
    22: Constant(0.9, "V", "usual supply of the low-power process", "M"),
}
FASTEST_CLOCK = Constant(1200e6, "Hz", "EIE, ISCA 2016: 28 nm; other nodes by the access time of CACTI's 512 KiB", "C")
FASTEST_CLOCK_NM = 28

_BOARD = "Wang et al., C-LSTM, FPGA 2018, block size 8 on ADM-PCIE-7V3 (XC7VX690T)"
BOARD_POWER = Constant(22.0, "W", _BOARD, "M+")
BOARD_FRAMES = Constant(179_687.0, "frames/s", _BOARD, "M+")
BOARD_PRODUCTS = Constant(51_200.0, "block products/frame", "4*(1024/8)*(672/8) + (512/8)*(1024/8)", "D")
BOARD_WORD = Constant(16.0, "bit", _BOARD, "V")
BOARD_BLOCK = Constant(8.0, "weights/block", _BOARD, "V")


def energy_scale(node_nm: float) -> float:
    """Energy of an operation at a node over that at 45 nm: the ratio of SRAM read energies."""
    return READ_J.factor(node_nm) / READ_J.factor(OPERATIONS_NM)


@dataclass(frozen=True)
class Operations:
    """Prices of operations at a node and its nominal supply, times `factor`.

    Attributes:
        node_nm: of the table.
        factor: 1 on an ASIC; on an FPGA what one board's power demands.
        block_memories: whether memories are built of RAMB18 blocks, so that a larger one takes more
            blocks, not a larger one.
    """

    node_nm: float = 65
    factor: float = 1.0
    block_memories: bool = False

    @property
    def sram(self) -> Sram:
        """Macros of the node."""
        return Sram(self.node_nm)

    def multiply_j(self, bits_a: float, bits_b: float) -> float:
        """Energy of one integer multiplication [J]."""
        exponent = log(MULTIPLY_32_J.value / MULTIPLY_8_J.value) / log(32 * 32 / (8 * 8))
        energy = MULTIPLY_8_J.value * (bits_a * bits_b / (8 * 8)) ** exponent
        return float(energy * energy_scale(self.node_nm) * self.factor)

    def add_j(self, bits: float) -> float:
        """Energy of one integer addition [J]."""
        return _line(bits, ADD_8_J, ADD_32_J) * energy_scale(self.node_nm) * self.factor

    def read_j(self, memory: Memory) -> Array:
        """Energy of reading (or writing) one bit of a memory [J/bit]."""
        if self.block_memories:
            memory = Memory(np.full_like(memory.width, 64.0), np.full_like(memory.depth, RAMB18_BITS / 64))
        return self.sram.read_j(memory) * self.factor

    def multiply_mm2(self, bits_a: float, bits_b: float) -> float:
        """Area of an integer multiplier [mm2]."""
        exponent = log(MULTIPLY_32_MM2.value / MULTIPLY_8_MM2.value) / log(32 * 32 / (8 * 8))
        return float(MULTIPLY_8_MM2.value * (bits_a * bits_b / (8 * 8)) ** exponent * self._area_scale)

    def add_mm2(self, bits: float) -> float:
        """Area of an integer adder [mm2]."""
        return _line(bits, ADD_8_MM2, ADD_32_MM2) * self._area_scale

    @property
    def _area_scale(self) -> float:
        return float((self.node_nm / OPERATIONS_NM) ** 2)


def _line(bits: float, at_8: Constant, at_32: Constant) -> float:
    return at_8.value + (at_32.value - at_8.value) * (bits - 8) / (32 - 8)


@cache
def board_factor() -> Constant:
    """Measured board energy of a block product over its table price.

    A block product of size k in the frequency domain multiplies k/2 + 1 spectral bins, two of them
    real: (k/2 - 1) * 4 + 2 real multiplications. A complex product adds twice within itself, and
    every bin is accumulated: (k/2 - 1) * (2 + 2) + 2 additions. It reads k + 2 weight words, two for each
    bin. Transforms (one a block row or column, under 3 % of the multiplications) and element-wise work are
    left out.
    """
    word, block = BOARD_WORD.value, BOARD_BLOCK.value
    n_real = (block / 2 - 1) * 4 + 2
    table = Operations(block_memories=True)
    arithmetic = n_real * (table.multiply_j(word, word) + table.add_j(2 * word))
    reads = (block + 2) * word * float(table.read_j(Memory(np.ones(1), np.ones(1)))[0])
    measured = BOARD_POWER.value / BOARD_FRAMES.value / BOARD_PRODUCTS.value
    return Constant(measured / (arithmetic + reads), "1", _BOARD, "calibrated")


@dataclass(frozen=True)
class FpgaPart:
    """What a part has [counts], and the clock a design is believed to reach at most [Hz]."""

    name: str
    family: str
    node_nm: float
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
        return Operations(factor=board_factor().value, block_memories=True)


@dataclass(frozen=True)
class AsicNode:
    """A low-power standard-cell process, and the clock a design is believed to reach at most [Hz]."""

    node_nm: float

    source = "CACTI 7 ITRS-LSTP memories; Horowitz, ISSCC 2014, scaled from 45 nm"
    tag = "D"
    clock_source = FASTEST_CLOCK.source
    clock_tag = "M"
    caveat = "ASIC energy and area are those of operations and memories; wires, clock, control are missing"

    @property
    def name(self) -> str:
        """As users write it."""
        return f"asic{self.node_nm:g}"

    @property
    def operations(self) -> Operations:
        """Prices of operations at the nominal supply."""
        return Operations(node_nm=self.node_nm)

    @cached_property
    def nominal_v(self) -> float:
        """Supply of the process, between nodes interpolated [V]."""
        nodes = sorted(NOMINAL_V)
        return float(np.interp(log(self.node_nm), np.log(nodes), [NOMINAL_V[node].value for node in nodes]))

    @property
    def max_clock_hz(self) -> float:
        """At the nominal supply."""
        return FASTEST_CLOCK.value * Sram(FASTEST_CLOCK_NM).access_ns / Sram(self.node_nm).access_ns

    def clock_at(self, supply_v: Array) -> Array:
        """Highest clock at a supply [Hz]; 0 at and below the threshold voltage."""

        def drive(v: Array) -> Array:
            return np.asarray(np.maximum(v - THRESHOLD_V.value, 0.0) ** ALPHA.value / v)

        return self.max_clock_hz * drive(supply_v) / drive(np.array(self.nominal_v))


Technology = FpgaPart | AsicNode


def _part(
    name: str,
    family: str,
    node_nm: float,
    counts: tuple[int, int, int, int],
    sheet: str,
    clock: tuple[float, str],
) -> FpgaPart:
    clock_source = f"block RAM limit of the slowest speed grade, rounded down; AMD {clock[1]}"
    return FpgaPart(name, family, node_nm, *counts, f"AMD {sheet}", "M+", clock[0], clock_source, "M")


_KNOWN: tuple[Technology, ...] = (
    _part("xc7vx690t", "7-series", 28, (433_200, 866_400, 3_600, 2_940), "DS180", (400e6, "DS183")),
    _part("xcku060", "UltraScale", 20, (331_680, 663_360, 2_760, 2_160), "DS890", (500e6, "DS892")),
    _part("xc7z020", "7-series", 28, (53_200, 106_400, 220, 280), "DS190", (350e6, "DS187")),
    _part("xczu9eg", "UltraScale+", 16, (274_080, 548_160, 2_520, 1_824), "DS891", (600e6, "DS925")),
    _part("xc7a100t", "7-series", 28, (63_400, 126_800, 240, 270), "DS180", (350e6, "DS181")),
    *(AsicNode(node_nm) for node_nm in (90, 65, 45, 28, 22)),
)
TECHNOLOGIES: dict[str, Technology] = {part.name: part for part in _KNOWN}
"""Known parts by name, and nodes; any whole node between them has a name of the same form."""


def technology(name: str) -> Technology:
    """The part or node of that name; asic40, say, is a node between two others.

    Raises:
        InputError: there is no such part, or the node is outside the simulated ones.
    """
    if name in TECHNOLOGIES:
        return TECHNOLOGIES[name]
    node = name.removeprefix("asic")
    if name.startswith("asic") and node.isdecimal():
        if NEWEST_NM <= int(node) <= OLDEST_NM:
            return AsicNode(int(node))
        raise InputError(
            f"{name}: nothing is known outside {OLDEST_NM} to {NEWEST_NM} nm, and nothing is extrapolated; "
            f"use asic{OLDEST_NM} to asic{NEWEST_NM}"
        )
    raise InputError(unknown("technology", name, TECHNOLOGIES))
