"""The HCGS chip (Kadetotad et al., ESSCIRC 2019 / JSSC 2020): coarse-grain kernels, all of them on the chip.

P multiply-accumulate units take P rows at a time; the rows of all gates share chunks. The kept columns of a
chunk come one a cycle: static selectors pick the activation that the rows of a level-2 block share. Every
row keeps as many columns as any other, so no unit ever waits:

    cycles = sum over kernels ceil(G * H / P) * kept columns + sum over layers ceil(3 H / P) + fill   (1)

The kept words and the selectors lie on the chip; each word and each selector is read once a step (2). On an
ASIC the dynamic energy holds one factor for wires, clock, registers and control, calibrated on one
published power (4); at another supply it goes with V^2.

Equations (2) to (5), what is assumed and what is recalled: docs/accelerators/coarse_grain.md.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.compression import CoarseGrain
from codesign.design import Fixed, Kernel, Network, PiecewiseLinear, TaskShape
from codesign.hardware.accelerators.dense import FILL
from codesign.hardware.accelerators.kind import AcceleratorKind, Bill, Settings, network_faults, price, selector_faults
from codesign.hardware.accelerators.lanes import (
    accumulator_bits,
    lane_area,
    lane_fabric,
    step_energy,
    step_memories,
)
from codesign.hardware.cost import Array, Cost, Infeasible, Parts, total
from codesign.hardware.memory import Constant, Memory
from codesign.hardware.technology import AsicNode, Operations, Technology
from codesign.hardware.workload import Product, Workload
from codesign.hardware.workload import workload as count

STRUCTURES = ("coarse_grain", "dense")
SELECTOR_WORD = 64
"""Bits of a word of the selectors' memory; an assumption."""

_SIXTEENTH = CoarseGrain(level1_block=128, level1_keep=1 / 4, level2_block=32, level2_keep=1 / 4)
_KERNEL = Kernel(structure=_SIXTEENTH, weights=Fixed(bits=6))
CHIP = Network(
    cell="lstm",
    layers=3,
    hidden=512,
    input_kernel=_KERNEL,
    recurrent_kernel=_KERNEL,
    head_weights=Fixed(bits=6),
    activations=Fixed(bits=13),
    activation_function=PiecewiseLinear(),
)
"""The largest network of the chip: 16 times fewer weights. Its block sizes are not published."""
CHIP_SHAPE = TaskShape(n_inputs=512, n_outputs=1)
"""Its inputs; the output layer is not published, and is left as small as can be."""
CHIP_N_PE = Constant(64, "1", "Kadetotad et al., JSSC 2020: 64 * 2 * 16 * 80 MHz is the published 0.16 TOPS", "M")

_JSSC = "Kadetotad et al., JSSC 2020: at 80 MHz and 1.1 V"
CHIP_POWER = Constant(67.3e-3, "W", _JSSC, "M+")
CHIP_CLOCK = Constant(80e6, "Hz", _JSSC, "V")
CHIP_SUPPLY = Constant(1.1, "V", _JSSC, "M+")
CHIP_NM = Constant(65, "nm", "Kadetotad et al., JSSC 2020", "V")


def _chunks(product: Product, n_pe: Array) -> Array:
    """Chunks of P rows; the rows of all gates share chunks."""
    return np.asarray(np.ceil(product.gates * product.padded_rows / n_pe), np.float64)


def _passes(product: Product, n_pe: Array) -> Array:
    """Cycles in which a kept column meets a chunk."""
    return _chunks(product, n_pe) * product.columns


def _groups(product: Product, n_pe: Array) -> Array:
    """Groups of rows of a chunk that have selectors of their own; one where all rows share them."""
    rows = np.minimum(n_pe, product.gates * product.padded_rows)
    return np.asarray(np.ceil(rows / (product.level2_block or product.gates * product.padded_rows)), np.float64)


def _cycles(workload: Workload, n_pe: Array) -> Parts:
    """Equation (1)."""
    kernels = workload.gate_kernels.items()
    element_wise = [np.ceil(layer.multiplications / n_pe) for layer in workload.layers]
    return {name: np.sum([_passes(p, n_pe) for p in products], axis=0) for name, products in kernels} | {
        "element_wise": np.sum(element_wise, axis=0),
        "head": _passes(workload.head, n_pe),
        "fill": np.full_like(n_pe, FILL * (len(workload.layers) + 1)),
    }


def _memories(workload: Workload, n_pe: Array) -> dict[str, Memory]:
    """A word of a kernel's memory feeds all units; x and both banks of h are read by all groups at once."""
    memories, one = {}, np.ones_like(n_pe)
    for name, products in workload.gate_kernels.items():
        depth = np.sum([_chunks(p, n_pe) * p.row_macs for p in products], axis=0)
        memories[name] = Memory(n_pe * products[0].word_length, depth)
    if workload.storage["indices"]:
        memories["selectors"] = Memory(SELECTOR_WORD * one, np.ceil(workload.storage["indices"] / SELECTOR_WORD) * one)
    groups = np.max([_groups(p, n_pe) for p in workload.products], axis=0)
    x = workload.layers[0].input_kernel
    n_states = sum(layer.recurrent_kernel.padded_cols for layer in workload.layers)
    n_activations = (0 if x.one_hot else x.padded_cols) + 2 * n_states
    memories["activations"] = Memory(groups * workload.activation_bits, n_activations * one)
    return memories | step_memories(workload, n_pe)


def _kernel_energy(workload: Workload, n_pe: Array, memories: dict[str, Memory], operations: Operations) -> Parts:
    """Equations (2) and (3): kept words and selectors are read once, activations once a pass and group."""
    bits, accumulator = workload.activation_bits, accumulator_bits(workload)
    activation_j = bits * operations.read_j(memories["activations"])
    parts: Parts = {}
    for name, products in workload.gate_kernels.items():
        mac_j = operations.multiply_j(products[0].word_length, bits) + operations.add_j(accumulator)
        read_bits = sum(p.gates * p.padded_rows * p.columns * p.word_length for p in products)
        reads = np.sum([_passes(p, n_pe) * _groups(p, n_pe) for p in products], axis=0)
        parts[f"{name}_macs"] = np.full_like(n_pe, sum(p.macs for p in products) * mac_j)
        parts[f"{name}_weights"] = read_bits * operations.read_j(memories[name])
        parts[f"{name}_activations"] = reads * activation_j
    if "selectors" in memories:
        parts["selectors"] = workload.storage["indices"] * operations.read_j(memories["selectors"])
    return parts


@cache
def energy_overhead() -> Constant:
    """Equation (4): the published power less the model's leakage, over the model's dynamic power, no output layer."""
    settings = Settings.of(int(CHIP_N_PE.value), CHIP_CLOCK.value, supply_v=CHIP_SUPPLY.value)
    bare = _estimate(count(CHIP, CHIP_SHAPE), settings, AsicNode(CHIP_NM.value), overhead=1.0)
    leakage_w = bare.breakdown["energy_j"]["leakage"] * bare.throughput
    dynamic_j = [part for name, part in bare.breakdown["energy_j"].items() if not name.startswith(("head", "leakage"))]
    seconds = (bare.cycles - bare.breakdown["cycles"]["head"]) / CHIP_CLOCK.value
    factor = (CHIP_POWER.value - leakage_w) * seconds / np.sum(dynamic_j, axis=0)
    return Constant(float(factor[0]), "1", f"{_JSSC}, {CHIP_POWER.value * 1e3:g} mW", "calibrated")


def _faults(workload: Workload, settings: Settings) -> tuple[NDArray[np.int64], dict[str, Any]]:
    mask, facts = network_faults(
        workload, "coarse_grain", STRUCTURES, lacks=("projection", "batch normalisation", "peepholes")
    )
    misfit, rule = selector_faults(workload, settings.n_pe)
    infeasible = np.full(len(settings), int(mask), np.int64)
    infeasible |= np.where(settings.batch > 1, int(Infeasible.BATCH), 0)
    infeasible |= np.where(settings.off_chip, int(Infeasible.OFF_CHIP), 0)
    return infeasible | misfit, facts | rule


def _unproven(workload: Workload, technology: Technology) -> tuple[str, ...]:
    words = {product.word_length for layer in workload.layers for product in layer.kernels}
    doubts = {
        "coarse_grain has no RTL; the chip publishes no cycles, only the rate of its 64 units": True,
        "the chip's block sizes are not published; groups of rows with selectors of their own are our reading": True,
        "energy holds one factor calibrated on the chip's 67.3 mW at 1.1 V; at 0.68 V it is some 40 % too high": (
            isinstance(technology, AsicNode)
        ),
        "the selectors' multiplexers are in no LUT, FF or area": True,
        "the chip runs the LSTM; the GRU follows by the same counting": workload.cell == "gru",
        "the chip has 6-bit weights and 13-bit activations; others follow by the same counting": (
            words != {6} or workload.activation_bits != 13
        ),
    }
    return tuple(text for text, applies in doubts.items() if applies)


def _estimate(workload: Workload, settings: Settings, technology: Technology, overhead: float) -> Cost:
    n_pe, operations = settings.n_pe.astype(np.float64), technology.operations
    memories = _memories(workload, n_pe)
    bits, accumulator = workload.activation_bits, accumulator_bits(workload)
    weight_bits = max(product.word_length for product in workload.products)
    infeasible, facts = _faults(workload, settings)
    energy_j = _kernel_energy(workload, n_pe, memories, operations) | step_energy(workload, memories, operations)
    bill = Bill(
        cycles=_cycles(workload, n_pe),
        energy_j=energy_j | {"overhead": (overhead - 1) * total(energy_j)},
        fabric=lane_fabric(n_pe, accumulator, bits, 1, n_pe * weight_bits),
        area_mm2=lane_area(n_pe, weight_bits, bits, accumulator, operations),
        memories=memories,
        infeasible=infeasible,
        facts=facts,
        unproven=_unproven(workload, technology),
    )
    return price(bill, workload, settings, technology)


def estimate(workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """Cost of one time step on the chip."""
    # on an FPGA the board's factor already holds what lies between the operations
    overhead = energy_overhead().value if isinstance(technology, AsicNode) else 1.0
    return _estimate(workload, settings, technology, overhead)


COARSE_GRAIN = AcceleratorKind(
    summary="Kadetotad et al., ESSCIRC 2019 / JSSC 2020 (HCGS): coarse-grain or dense kernels, all on the chip",
    structures=STRUCTURES,
    estimate=estimate,
)
