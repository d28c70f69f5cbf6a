"""What all accelerator kinds share: settings as arrays, the record of a kind, and `price`.

A kind computes a `Bill` - cycles, joules, fabric, memories and area in named parts, and the bits of what
cannot run. `price` adds the parts, prices the memories, applies supply voltage and limits of the technology
and returns the Cost.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.design import Accelerator
from codesign.errors import InputError
from codesign.hardware.cost import Array, Cost, Infeasible, Parts, total
from codesign.hardware.memory import Memory
from codesign.hardware.technology import DRAM_J, AsicNode, FpgaPart, Technology
from codesign.hardware.workload import Workload

RETICLE_MM2 = 26 * 33
"""Largest chip that one exposure makes: the field of a lithography scanner [mm2]."""


@dataclass(frozen=True)
class Settings:
    """What is to be estimated, one array entry a setting; build it with `of`.

    Attributes:
        n_pe: processing elements; what one is, the kind says.
        clock_hz: clock.
        batch: independent streams side by side.
        dram_bits_per_s: bandwidth of the memory outside the chip that holds the kernels; 0: they lie on chip.
        supply_v: supply of an ASIC; 0: the node's nominal one.
    """

    n_pe: NDArray[np.int64]
    clock_hz: Array
    batch: NDArray[np.int64]
    dram_bits_per_s: Array
    supply_v: Array

    @classmethod
    def of(
        cls,
        n_pe: ArrayLike,
        clock_hz: ArrayLike,
        batch: ArrayLike = 1,
        dram_bits_per_s: ArrayLike = 0.0,
        supply_v: ArrayLike = 0.0,
    ) -> "Settings":
        """Settings from numbers or arrays, stretched to one length.

        Example:
            >>> Settings.of([4, 8, 16], 100e6).clock_hz.tolist()
            [100000000.0, 100000000.0, 100000000.0]
        """
        given = {"n_pe": n_pe, "clock_hz": clock_hz, "batch": batch}
        given |= {"dram_bits_per_s": dram_bits_per_s, "supply_v": supply_v}
        try:
            arrays = np.broadcast_arrays(*(np.atleast_1d(value) for value in given.values()))
        except ValueError:
            lengths = ", ".join(f"{name} {np.size(value)}" for name, value in given.items() if np.ndim(value))
            raise InputError(f"settings must be of one length, got {lengths}") from None
        values = dict(zip(given, arrays, strict=True))
        for name in ("n_pe", "batch"):
            value = values[name]
            if value.ndim != 1 or value.dtype.kind not in "iu" or (value < 1).any():
                raise InputError(f"{name} must be whole numbers of at least 1, got {value.tolist()}")
        for name, least in (("clock_hz", "positive"), ("dram_bits_per_s", "0 or more"), ("supply_v", "0 or more")):
            value = values[name]
            if not np.isfinite(value).all() or (value < 0).any() or (least == "positive" and (value == 0).any()):
                raise InputError(f"{name} must be {least}, got {value.tolist()}")
        counts = (values[name].astype(np.int64) for name in ("n_pe", "batch"))
        sizes, batches = counts
        rates = (values[name].astype(np.float64) for name in ("clock_hz", "dram_bits_per_s", "supply_v"))
        clocks, bandwidths, supplies = rates
        return cls(sizes, clocks, batches, bandwidths, supplies)

    @classmethod
    def of_accelerator(cls, accelerator: Accelerator) -> "Settings":
        """The one setting of an accelerator."""
        names = ("n_pe", "clock_hz", "batch", "dram_bits_per_s", "supply_v")
        return cls.of(*(getattr(accelerator, name) for name in names))

    def __len__(self) -> int:
        """Settings."""
        return len(self.n_pe)

    @property
    def off_chip(self) -> NDArray[np.bool_]:
        """Where the kernels lie outside the chip."""
        return np.asarray(self.dram_bits_per_s > 0)

    def dram_cycles(self, bits: Array | float) -> Array:
        """Cycles in which so many bits come in; 0 where the kernels lie on chip."""
        bandwidth = np.where(self.off_chip, self.dram_bits_per_s, 1.0)
        return np.where(self.off_chip, bits * self.clock_hz / bandwidth, 0.0)

    def dram_j(self, bits: Array | float) -> Array:
        """Energy of bringing so many bits in [J]; 0 where the kernels lie on chip."""
        return np.where(self.off_chip, bits * DRAM_J.value, 0.0)


@dataclass(frozen=True)
class AcceleratorKind:
    """A member of `ACCELERATORS`: one line about it, what it runs, its cost model.

    Attributes:
        structures: of kernels.
        weights: formats of kernels.
    """

    summary: str
    structures: tuple[str, ...]
    estimate: Callable[[Workload, Settings, Technology], Cost]
    weights: tuple[str, ...] = ("fixed",)


@dataclass(frozen=True)
class Bill:
    """What a kind computes for `price`; every array has one entry a setting.

    Attributes:
        cycles: parts of the cycles from a step's first operation to its last.
        energy_j: parts of the dynamic energy of one step of one stream, at the nominal supply; what memory
            outside the chip takes ends with "_dram" and has a supply of its own.
        fabric: parts of each of lut, ff, dsp; used on an FPGA.
        area_mm2: parts of the area without memories; used on an ASIC.
        memories: on the chip, by name.
        infeasible: bits known before the technology's limits are applied.
        streams: streams that finish a step in these cycles, side by side or one behind the other.
    """

    cycles: Parts
    energy_j: Parts
    fabric: dict[str, Parts]
    area_mm2: Parts
    memories: dict[str, Memory]
    infeasible: NDArray[np.int64]
    streams: Array | float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)
    unproven: tuple[str, ...] = ()


def price(bill: Bill, workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """The Cost of a bill in a technology, its limits applied."""
    clock_hz, n = settings.clock_hz, len(settings)
    cycles = total(bill.cycles)
    latency_s = cycles / clock_hz
    throughput = bill.streams / latency_s
    supply_v, supply_faults = _supply(settings, technology)
    storage = {name: np.full(n, float(bits)) for name, bits in workload.storage.items()}
    dynamic = bill.energy_j.items()
    energy = {name: part if name.endswith("_dram") else part * supply_v**2 for name, part in dynamic}
    silicon: dict[str, Parts]
    if isinstance(technology, FpgaPart):
        silicon = bill.fabric | {"bram18": {name: memory.bram18 for name, memory in bill.memories.items()}}
    else:
        macros = technology.operations.sram
        areas = {f"{name}_memory": macros.area_mm2(memory) for name, memory in bill.memories.items()}
        silicon = {"area_mm2": bill.area_mm2 | areas}
        leakage_w = total({name: macros.leakage_w(memory) for name, memory in bill.memories.items()})
        energy |= {"leakage": leakage_w * supply_v / throughput}
    energy_j = total(energy)
    figures = {name: np.full(n, np.nan) for name in ("lut", "ff", "dsp", "bram18", "area_mm2")}
    figures |= {name: total(parts) for name, parts in silicon.items()}
    over, limits = _limits(figures, settings, technology)
    facts = {
        "n_pe": settings.n_pe,
        "batch": settings.batch,
        "clock_hz": clock_hz,
        "hidden": workload.hidden,
        "technology": technology.name,
    }
    return Cost(
        cycles=cycles,
        latency_s=latency_s,
        throughput=throughput,
        energy_j=energy_j,
        power_w=energy_j * throughput,
        storage_bits=total(storage),
        infeasible=bill.infeasible | supply_faults | over,
        breakdown={"cycles": bill.cycles, "energy_j": energy, "storage_bits": storage} | silicon,
        unproven=(*bill.unproven, technology.caveat),
        facts=facts | limits | bill.facts,
        **figures,
    )


def _supply(settings: Settings, technology: Technology) -> tuple[Array, NDArray[np.int64]]:
    """Supply over the nominal one, and bits of supplies that cannot be."""
    asked = settings.supply_v > 0
    if isinstance(technology, FpgaPart):
        return np.ones(len(settings)), np.where(asked, int(Infeasible.SUPPLY), 0)
    ratio = np.where(asked, settings.supply_v / technology.nominal_v, 1.0)
    return ratio, np.zeros(len(settings), np.int64)


def _limits(
    figures: dict[str, Array], settings: Settings, technology: Technology
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Bits of what exceeds the part, and the limits by name."""
    if isinstance(technology, AsicNode):
        supply_v = np.where(settings.supply_v > 0, settings.supply_v, technology.nominal_v)
        max_clock_hz = technology.clock_at(supply_v)
        facts: dict[str, Any] = {"max_clock_hz": max_clock_hz, "reticle_mm2": RETICLE_MM2, "supply_v": supply_v}
        over = np.where(figures["area_mm2"] > RETICLE_MM2, int(Infeasible.RETICLE), 0).astype(np.int64)
    else:
        max_clock_hz = np.full(len(settings), technology.max_clock_hz)
        facts = {"max_clock_hz": max_clock_hz, "supply_v": settings.supply_v}
        over = np.zeros(len(settings), np.int64)
        for name in ("lut", "ff", "dsp", "bram18"):
            limit = getattr(technology, name)
            facts[f"limit_{name}"] = limit
            over |= np.where(figures[name] > limit, int(Infeasible[name.upper()]), 0)
    over |= np.where(settings.clock_hz > max_clock_hz, int(Infeasible.CLOCK), 0)
    return over, facts


def network_faults(
    workload: Workload,
    name: str,
    structures: tuple[str, ...],
    weights: tuple[str, ...] = ("fixed",),
    *,
    lacks: tuple[str, ...] = (),
) -> tuple[Infeasible, dict[str, Any]]:
    """What no accelerator of these structures and weight formats can run, whatever its size.

    Args:
        lacks: parts of a cell that it has no hardware for: "projection", "batch normalisation", "peepholes".
    """
    kernels = [kernel for layer in workload.layers for kernel in layer.kernels]
    strange = [kernel.structure for kernel in kernels if kernel.structure not in structures]
    foreign = [kernel.number_format for kernel in kernels if kernel.number_format not in weights]
    parts = {
        "projection": any(layer.projection is not None for layer in workload.layers),
        "batch normalisation": workload.batch_norm != "none",
        "peepholes": workload.peephole,
    }
    lacking = [part for part in lacks if parts[part]]
    mask = Infeasible(0)
    if workload.contradiction:
        mask |= Infeasible.NETWORK
    if workload.oversized_block:
        mask |= Infeasible.OVERSIZED_BLOCK
    if strange:
        mask |= Infeasible.STRUCTURE
    if foreign:
        mask |= Infeasible.WEIGHT_FORMAT
    if workload.head.number_format != "fixed":
        mask |= Infeasible.HEAD_FORMAT
    if workload.activation_format != "fixed":
        mask |= Infeasible.ACTIVATION_FORMAT
    if lacking:
        mask |= Infeasible.CELL
    return mask, {
        "accelerator": name,
        "contradiction": workload.contradiction,
        "structures": ", ".join(structures),
        "structure": strange[0] if strange else "",
        "weights": " or ".join(f"'{kind}'" for kind in weights),
        "foreign": foreign[0] if foreign else "",
        "cell_part": lacking[0] if lacking else "",
        "oversized_block": workload.oversized_block,
        "largest_block": workload.largest_block,
    }


def selector_faults(workload: Workload, n_pe: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Numbers of lanes that split level-2 blocks unevenly, whose rows share selectors, and the next that do not."""
    # blocks are powers of two, so what fits the largest fits the others
    block = max(product.level2_block or 1 for product in workload.products)
    fits = (n_pe % block == 0) | (block % n_pe == 0)
    power_of_two = np.exp2(np.ceil(np.log2(n_pe))).astype(np.int64)
    return np.where(fits, 0, int(Infeasible.PE_FITS_KIND)), {
        "pe_rule": f"the rows of a level-2 block share selectors, so it must be a multiple or a divisor of {block}",
        "useful_n_pe": np.where(n_pe < block, power_of_two, -(-n_pe // block) * block),
    }
