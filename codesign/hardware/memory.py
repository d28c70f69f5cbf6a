"""On-chip memories: block RAMs of an FPGA by counting, SRAM macros of an ASIC from CACTI.

Block RAM. A RAMB18 serves as 512x36, 1Kx18, 2Kx9, 4Kx4, 8Kx2 or 16Kx1 (AMD UG473), and a memory
takes the shape that needs the fewest. Memories below 4096 bits become logic. Against 16 syntheses
with Yosys 0.70 for the 7-series this is exact in 12 and one too many in the rest.

SRAM. Read energy and area between the sizes of the table are interpolated on log-log axes and
continued beyond its ends. Leaving out one inner size and interpolating it from its neighbours is
wrong by at most 10 % in energy and 11 % in area.
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
    copies: int = 1

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


@dataclass(frozen=True)
class SramTable:
    """Single-port SRAM macros of growing size; energies in J per read, areas in mm2."""

    size_bytes: tuple[int, ...]
    port_bits: tuple[int, ...]
    read_pj: tuple[float, ...]
    macro_mm2: tuple[float, ...]
    source: str
    tag: str

    def read_j(self, bits: Array) -> Array:
        """Energy of reading one bit [J/bit]."""
        per_bit = np.array(self.read_pj) * 1e-12 / np.array(self.port_bits)
        return self._interpolate(bits, per_bit)

    def area_mm2(self, bits: Array) -> Array:
        """Area of a macro [mm2]; 0 for an empty one."""
        return np.where(bits > 0, self._interpolate(bits, np.array(self.macro_mm2)), 0.0)

    def _interpolate(self, bits: Array, values: Array) -> Array:
        """On log-log axes, the end segments continued beyond the table."""
        x, log_x, log_y = np.log(np.maximum(bits, 1) / 8), np.log(self.size_bytes), np.log(values)
        left = np.clip(np.searchsorted(log_x, x, side="right") - 1, 0, len(values) - 2)
        slope = np.diff(log_y) / np.diff(log_x)
        return np.asarray(np.exp(log_y[left] + slope[left] * (x - log_x[left])), np.float64)


SRAM_65NM = SramTable(
    size_bytes=(4096, 16384, 65536, 262144, 524288),
    # the widest port simulated for each size, as weights are read in long words
    port_bits=(64, 64, 128, 128, 128),
    read_pj=(7.04639, 18.151, 82.0583, 151.705, 233.886),
    macro_mm2=(0.03131327, 0.11447908, 0.44262559, 2.03900570, 3.78132124),
    source="CACTI 7, 65 nm, ITRS-LSTP cells and periphery, 360 K, one read/write port",
    tag="S",
)
