"""What a design costs: arrays of figures, why it cannot run, and what nobody has checked.

A `Cost` holds one entry for each setting that was estimated, so that a thousand sizes of an
accelerator are one call. A design that cannot run still has figures (they tell how far off it is)
and a bit mask; the mask becomes sentences only when a user asks for `reasons`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parts = dict[str, Array]
"""Named shares of a quantity; their sum, in the order written, is the quantity."""

COST_FIELDS: dict[str, str] = {
    "cycles": "cycles",
    "latency_s": "s",
    "throughput": "steps/s",
    "energy_j": "J",
    "power_w": "W",
    "lut": "LUT",
    "ff": "FF",
    "dsp": "DSP",
    "bram18": "BRAM18",
    "area_mm2": "mm2",
    "storage_bits": "bit",
}
"""Every figure of a Cost and its unit; all but throughput and power are for one time step of one stream."""

COUNTED = frozenset({"cycles", "LUT", "FF", "DSP", "BRAM18", "bit"})
"""Units of things that are counted and shown without a fraction where there is none."""


class Infeasible(IntFlag):
    """Why a design cannot run; `SENTENCES` holds the text of each bit."""

    OVERSIZED_BLOCK = 1 << 0
    STRUCTURE = 1 << 1
    WEIGHT_FORMAT = 1 << 2
    ACTIVATION_FORMAT = 1 << 3
    ACTIVATION_FUNCTION = 1 << 4
    SEGMENTS = 1 << 5
    PE_DIVIDES_HIDDEN = 1 << 6
    PE_FITS_BLOCK = 1 << 7
    PE_FITS_SELECTORS = 1 << 8
    BLOCK_DIVIDES_HIDDEN = 1 << 9
    LUT = 1 << 10
    FF = 1 << 11
    DSP = 1 << 12
    BRAM18 = 1 << 13
    CLOCK = 1 << 14
    NETWORK = 1 << 15
    CELL = 1 << 16
    HEAD_FORMAT = 1 << 17
    SUPPLY = 1 << 18
    RETICLE = 1 << 19
    BATCH = 1 << 20
    OFF_CHIP = 1 << 21
    PE_FITS_KIND = 1 << 22
    SMALL_BLOCK = 1 << 25


SENTENCES: dict[Infeasible, str] = {
    Infeasible.NETWORK: "there is no such network: {contradiction}",
    Infeasible.CELL: "{accelerator} has no {cell_part}; leave it out",
    Infeasible.OVERSIZED_BLOCK: (
        "a block of {oversized_block} is larger than the layer; with hidden = {hidden} use at most {largest_block}"
    ),
    Infeasible.STRUCTURE: "{accelerator} runs {structures} kernels, not {structure}",
    Infeasible.WEIGHT_FORMAT: "{accelerator} multiplies weights of kind {weights}, not '{foreign}'",
    Infeasible.HEAD_FORMAT: "{accelerator} has fixed-point weights in the output layer; use head_weights = 'fixed'",
    Infeasible.ACTIVATION_FORMAT: ("{accelerator} holds fixed-point states only; use activations of kind 'fixed'"),
    Infeasible.ACTIVATION_FUNCTION: (
        "{accelerator} evaluates piecewise-linear segments; use activation_function = 'piecewise_linear'"
    ),
    Infeasible.SEGMENTS: (
        "the segment table is addressed by bits of z; segments must be a power of two, got {segments}"
    ),
    Infeasible.PE_DIVIDES_HIDDEN: ("n_pe = {n_pe} does not divide hidden = {hidden}; the next useful is {useful_n_pe}"),
    Infeasible.PE_FITS_BLOCK: (
        "n_pe = {n_pe} is neither a multiple nor a divisor of block_size = {block_size}; "
        "the next useful is {useful_n_pe}"
    ),
    Infeasible.PE_FITS_SELECTORS: (
        "n_pe = {n_pe} does not divide level2_block = {level2_block}, whose rows share their selectors; "
        "the next useful is {useful_n_pe}"
    ),
    Infeasible.BLOCK_DIVIDES_HIDDEN: "a block of {uneven_block} does not divide hidden = {hidden}",
    Infeasible.LUT: "needs {lut} LUT, {technology} has {limit_lut}",
    Infeasible.FF: "needs {ff} FF, {technology} has {limit_ff}",
    Infeasible.DSP: "needs {dsp} DSP, {technology} has {limit_dsp}",
    Infeasible.BRAM18: "needs {bram18} BRAM18, {technology} has {limit_bram18}",
    Infeasible.CLOCK: "clock_hz = {clock_hz:g} is above the {max_clock_hz:g} that {technology} may reach",
    Infeasible.SUPPLY: "{technology} has a supply of its own; supply_v belongs to ASIC nodes",
    Infeasible.RETICLE: "needs {area_mm2:.0f} mm2, more than the {reticle_mm2} that one exposure makes",
    Infeasible.BATCH: "{accelerator} has no streams side by side; use batch = 1",
    Infeasible.OFF_CHIP: "{accelerator} holds all weights on the chip; use dram_bits_per_s = 0",
    Infeasible.PE_FITS_KIND: "n_pe = {n_pe} does not fit {accelerator}: {pe_rule}; the next useful is {useful_n_pe}",
    Infeasible.SMALL_BLOCK: "{accelerator} transforms blocks; use block_size = 2 or more in every kernel",
}
"""Text of each bit; the words in braces are `Cost.facts` or figures of the Cost."""


@dataclass(frozen=True)
class Cost:
    """Figures of one time step, one array entry a setting; NaN where the technology has no such thing.

    Attributes:
        latency_s: from a step's input to its output, which the stream's next step may wait for.
        throughput: steps per second of all streams that the hardware works on together.
        power_w: energy_j * throughput, the mean while it works.
        infeasible: bits of `Infeasible`; 0 where the design can run.
        breakdown: for a figure's name, the parts that add up to it.
        unproven: what neither RTL nor a publication has checked, one sentence each.
        facts: what the sentences of `reasons` are filled from.
    """

    cycles: Array
    latency_s: Array
    throughput: Array
    energy_j: Array
    power_w: Array
    lut: Array
    ff: Array
    dsp: Array
    bram18: Array
    area_mm2: Array
    storage_bits: Array
    infeasible: NDArray[np.int64]
    breakdown: dict[str, Parts]
    unproven: tuple[str, ...]
    facts: Mapping[str, Any]

    def __len__(self) -> int:
        """Settings estimated."""
        return len(self.cycles)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Where the design can run."""
        return np.asarray(self.infeasible == 0)

    def row(self, i: int = 0) -> dict[str, float | int | None]:
        """The figures of setting i as plain numbers; None where there is no such quantity."""
        return {name: _plain(getattr(self, name)[i], unit) for name, unit in COST_FIELDS.items()}

    def reasons(self, i: int = 0) -> list[str]:
        """Why setting i cannot run, a sentence for each bit; empty if it can."""
        facts = {
            name: value[i] if isinstance(value, np.ndarray) else value for name, value in self.facts.items()
        } | self.row(i)
        mask = Infeasible(int(self.infeasible[i]))
        return [text.format_map(facts) for bit, text in SENTENCES.items() if bit in mask]


def total(parts: Parts) -> Array:
    """The sum of named parts, added in their order."""
    # one after another: np.sum chooses its order by the shape, and one setting must equal one of many
    first, *others = parts.values()
    return sum(others, start=first)


def _plain(value: float, unit: str) -> float | int | None:
    if isnan(value):
        return None
    return int(value) if unit in COUNTED and float(value).is_integer() else float(value)
