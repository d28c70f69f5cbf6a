"""On-chip memories: block RAMs of an FPGA by counting, SRAM macros of an ASIC from CACTI.

Block RAM. A RAMB18 serves as 512x36, 1Kx18, 2Kx9, 4Kx4, 8Kx2 or 16Kx1 (AMD UG473), and a memory
takes the shape that needs the fewest. Memories below 4096 bits become logic. Against 16 syntheses
with Yosys 0.70 for the 7-series this is exact in 12 and one too many in the rest.

SRAM. `READ_J`, `MACRO_MM2` and `LEAKAGE_W` are power laws in size and port width with a factor for each
of four nodes, fitted to macros of 4 to 512 KiB; `worst` and `rms` of each are its errors over these
(energy of an access: 25 % at worst, 15 % in the mean square; area: 10 % and 5 %). Between nodes the
factors are interpolated on log-log axes; outside them nothing is known. A memory wider than a port of
`WIDEST_PORT` bits is several macros side by side.
"""

from dataclasses import dataclass

import numpy as np

from codesign.hardware.cost import Array

RAMB18_BITS = 18 * 1024
"""Bits of a RAMB18, parity bits included (AMD UG473)."""

_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
_LOGIC_BELOW = 4096


@dataclass(frozen=True)
class Constant:
    """A number with its unit, where it comes from, and a tag (see `technology`)."""

    value: float
    unit: str
    source: str
    tag: str


@dataclass(frozen=True)
class Memory:
    """`copies` memories of `depth` words of `width` bits, one entry a setting."""

    width: Array
    depth: Array
    copies: Array | int = 1

    @property
    def bits(self) -> Array:
        """Bits of all copies."""
        return self.copies * self.width * self.depth

    @property
    def bram18(self) -> Array:
        """RAMB18 blocks in the shape that needs the fewest; 0 for what becomes logic."""
        blocks = [np.ceil(self.width / width) * np.ceil(self.depth / depth) for width, depth in _SHAPES]
        small = self.width * self.depth < _LOGIC_BELOW
        return self.copies * np.where(small, 0.0, np.min(np.stack(blocks), axis=0))


SRAM_NODES = (90, 65, 45, 22)
"""Simulated nodes [nm]."""

OLDEST_NM, NEWEST_NM = SRAM_NODES[0], SRAM_NODES[-1]
REFERENCE_BITS, REFERENCE_PORT = 8 * 65536, 64
WIDEST_PORT = 128
"""Widest port simulated [bit]; a wider memory is several macros."""


@dataclass(frozen=True)
class SramFit:
    """A figure of a macro: factor(node) * (bits / 64 KiB)^size * (port / 64 bit)^port.

    Attributes:
        factors: at `SRAM_NODES`, in `unit`; between them on log-log axes.
        size, port: exponents.
        worst, rms: relative errors over the simulations.
    """

    unit: str
    factors: tuple[float, ...]
    size: float
    port: float
    worst: float
    rms: float
    source: str = "least squares over 24 macros of CACTI 7, ITRS-LSTP, 360 K, one read/write port"
    tag: str = "S"

    def factor(self, node_nm: float) -> float:
        """At any node between the simulated ones."""
        nodes = np.log(SRAM_NODES[::-1])
        return float(np.exp(np.interp(np.log(node_nm), nodes, np.log(self.factors[::-1]))))

    def of(self, node_nm: float, bits: Array, port: Array) -> Array:
        """The figure of a macro of so many bits."""
        size = np.maximum(bits, 1) / REFERENCE_BITS
        return np.asarray(
            self.factor(node_nm) * size**self.size * (np.maximum(port, 1) / REFERENCE_PORT) ** self.port, np.float64
        )


READ_J = SramFit("J", (8.973e-11, 4.784e-11, 2.716e-11, 6.81e-12), size=0.625, port=0.461, worst=0.25, rms=0.15)
"""Energy of an access."""
MACRO_MM2 = SramFit("mm2", (0.8996, 0.4878, 0.2401, 0.06558), size=1.01, port=-0.0517, worst=0.1, rms=0.05)
LEAKAGE_W = SramFit("W", (1.374e-05, 2.422e-05, 1.723e-05, 1.657e-05), size=0.943, port=0.0188, worst=0.07, rms=0.04)
ACCESS_NS = dict(zip(SRAM_NODES, (6.039, 4.330, 3.225, 1.953), strict=True))
"""Access time of 512 KiB with a 128-bit port [ns], same source: tells how fast one node is against another."""


@dataclass(frozen=True)
class Sram:
    """Single-port SRAM of one node."""

    node_nm: float

    def read_j(self, memory: Memory) -> Array:
        """Energy of reading or writing one bit [J/bit]."""
        n_macros, bits = _macros(memory)
        port = np.maximum(memory.width / n_macros, 1)
        return READ_J.of(self.node_nm, bits, port) / port

    def area_mm2(self, memory: Memory) -> Array:
        """Area of all copies [mm2]; 0 for an empty memory."""
        return self._sum(MACRO_MM2, memory)

    def leakage_w(self, memory: Memory) -> Array:
        """Leakage of all copies [W]; 0 for an empty memory."""
        return self._sum(LEAKAGE_W, memory)

    @property
    def access_ns(self) -> float:
        """Access time of 512 KiB [ns], between nodes interpolated on log-log axes."""
        nodes = sorted(ACCESS_NS)
        return float(np.exp(np.interp(np.log(self.node_nm), np.log(nodes), np.log([ACCESS_NS[n] for n in nodes]))))

    def _sum(self, fit: SramFit, memory: Memory) -> Array:
        n_macros, bits = _macros(memory)
        one = fit.of(self.node_nm, bits, memory.width / n_macros)
        return np.where(bits > 0, memory.copies * n_macros * one, 0.0)


def _macros(memory: Memory) -> tuple[Array, Array]:
    """Macros side by side of one copy, and the bits of each."""
    # a fraction of a macro keeps costs smooth and growing with the word length
    n_macros = np.maximum(1.0, memory.width / WIDEST_PORT)
    return n_macros, memory.width * memory.depth / n_macros
