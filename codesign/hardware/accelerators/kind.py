"""What all accelerator kinds share: settings as arrays, the record of a kind, and `price`.

A kind computes a `Bill` - cycles, joules, fabric and area in named parts, and the bits of what
cannot run. `price` adds the parts, applies the limits of the technology and returns the Cost.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.errors import InputError
from codesign.hardware.cost import Array, Cost, Infeasible, Parts, total
from codesign.hardware.technology import AsicNode, FpgaPart, Technology
from codesign.hardware.workload import Workload


@dataclass(frozen=True)
class Settings:
    """The sizes and clocks to estimate, one array entry a setting; build it with `of`."""

    n_pe: NDArray[np.int64]
    clock_hz: Array

    @classmethod
    def of(cls, n_pe: ArrayLike, clock_hz: ArrayLike) -> "Settings":
        """Settings from numbers or arrays, stretched to one length.

        Example:
            >>> Settings.of([4, 8, 16], 100e6).clock_hz.tolist()
            [100000000.0, 100000000.0, 100000000.0]
        """
        try:
            sizes, clocks = np.broadcast_arrays(np.atleast_1d(n_pe), np.atleast_1d(clock_hz))
        except ValueError:
            raise InputError(
                f"n_pe and clock_hz must be of one length, got {np.size(n_pe)} and {np.size(clock_hz)}"
            ) from None
        if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or (sizes < 1).any():
            raise InputError(f"n_pe must be whole numbers of at least 1, got {sizes.tolist()}")
        if not (np.isfinite(clocks) & (clocks > 0)).all():
            raise InputError(f"clock_hz must be positive, got {clocks.tolist()}")
        return cls(sizes.astype(np.int64), clocks.astype(np.float64))


@dataclass(frozen=True)
class AcceleratorKind:
    """A member of `ACCELERATORS`: one line about it, the structures it runs, its cost model."""

    summary: str
    structures: tuple[str, ...]
    estimate: Callable[[Workload, Settings, Technology], Cost]


@dataclass(frozen=True)
class Bill:
    """What a kind computes for `price`; every array has one entry a setting.

    Attributes:
        cycles: parts of the cycles of one step.
        energy_j: parts of the energy of one step.
        fabric: parts of each of lut, ff, dsp, bram18; used on an FPGA.
        area_mm2: parts of the area; used on an ASIC.
        infeasible: bits known before the technology's limits are applied.
    """

    cycles: Parts
    energy_j: Parts
    fabric: dict[str, Parts]
    area_mm2: Parts
    infeasible: NDArray[np.int64]
    facts: dict[str, Any] = field(default_factory=dict)
    unproven: tuple[str, ...] = ()


def price(bill: Bill, workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """The Cost of a bill in a technology, its limits applied."""
    clock_hz = settings.clock_hz
    cycles, energy_j = total(bill.cycles), total(bill.energy_j)
    latency_s = cycles / clock_hz
    storage = {name: np.full(len(clock_hz), float(bits)) for name, bits in workload.storage.items()}
    on_fpga = isinstance(technology, FpgaPart)
    silicon = bill.fabric if on_fpga else {"area_mm2": bill.area_mm2}
    nan = np.full(len(clock_hz), np.nan)
    figures = {name: nan for name in ("lut", "ff", "dsp", "bram18", "area_mm2")}
    figures |= {name: total(parts) for name, parts in silicon.items()}
    over, limits = _limits(figures, technology)
    over |= np.where(clock_hz > technology.max_clock_hz, int(Infeasible.CLOCK), 0)
    facts = {
        "n_pe": settings.n_pe,
        "clock_hz": clock_hz,
        "hidden": workload.hidden,
        "technology": technology.name,
    }
    return Cost(
        cycles=cycles,
        latency_s=latency_s,
        throughput=1 / latency_s,
        energy_j=energy_j,
        power_w=energy_j / latency_s,
        storage_bits=total(storage),
        infeasible=bill.infeasible | over,
        breakdown={"cycles": bill.cycles, "energy_j": bill.energy_j, "storage_bits": storage} | silicon,
        unproven=(*bill.unproven, technology.caveat),
        facts=facts | limits | bill.facts,
        **figures,
    )


def _limits(figures: dict[str, Array], technology: Technology) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Bits of what exceeds the part, and the limits by name."""
    facts: dict[str, Any] = {"max_clock_hz": technology.max_clock_hz}
    over = np.zeros(len(figures["lut"]), np.int64)
    if isinstance(technology, AsicNode):
        return over, facts
    for name in ("lut", "ff", "dsp", "bram18"):
        limit = getattr(technology, name)
        facts[f"limit_{name}"] = limit
        over |= np.where(figures[name] > limit, int(Infeasible[name.upper()]), 0)
    return over, facts


def network_faults(workload: Workload, name: str, structures: tuple[str, ...]) -> tuple[Infeasible, dict[str, Any]]:
    """What no fixed-point accelerator of these structures can run, whatever its size."""
    strange = [product.structure for product in workload.products if product.structure not in structures]
    formats = {product.number_format for product in workload.products}
    mask = Infeasible(0)
    if workload.contradiction:
        mask |= Infeasible.NETWORK
    if workload.oversized_block:
        mask |= Infeasible.OVERSIZED_BLOCK
    if strange:
        mask |= Infeasible.STRUCTURE
    if formats != {"fixed"}:
        mask |= Infeasible.WEIGHT_FORMAT
    if workload.activation_format != "fixed":
        mask |= Infeasible.ACTIVATION_FORMAT
    return mask, {
        "accelerator": name,
        "contradiction": workload.contradiction,
        "structures": ", ".join(structures),
        "structure": strange[0] if strange else "",
        "oversized_block": workload.oversized_block,
        "largest_block": workload.largest_block,
    }
