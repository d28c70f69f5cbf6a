"""Ardakani et al., "Learning Recurrent Binary/Ternary Weights", ICLR 2019: lanes that add and subtract.

P lanes take one weight each in a cycle; the rows of all gates share chunks of P. A lane of binary or ternary
weights is an adder with a sign before it, and a lane of fixed-point weights, the paper's baseline, has a
multiplier. In cycles, for G gates, H units, a layer whose products stream N columns past n chunks:

    products = n * N,   n = ceil(G * H / P)                                             (1)
    in sight = e + (n - 1) * max(0, e - N),   e = ceil(element-wise products / (5 * n)) (2)
    head = ceil(C * b / P) * H,   b the bits of its words, 1 where lanes multiply       (3)
    wait = max(0, weight bits * clock / bandwidth - products)                           (4)

One pipeline of five multipliers does the element-wise work of a chunk, batch normalisation and the constants of
binary and ternary words included, while the lanes are at the next; (2) is what nothing hides. From memory outside
the chip the weights pass through a buffer on it, one write and one read each.

What is assumed, recalled and calibrated: docs/accelerators/binary_ternary.md.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.hardware.accelerators.dense import FILL
from codesign.hardware.accelerators.kind import AcceleratorKind, Bill, Settings, network_faults, price, selector_faults
from codesign.hardware.accelerators.lanes import (
    ELEMENT_WISE_MULTIPLIERS,
    STATE_BITS,
    lane_area,
    lane_fabric,
    step_energy,
    step_memories,
)
from codesign.hardware.accelerators.products import (
    MULTIPLIER_FREE,
    head_macs_j,
    head_rows,
    head_word_bits,
    product_j,
    product_mm2,
    sum_bits,
)
from codesign.hardware.cost import Array, Cost, Infeasible, Parts
from codesign.hardware.memory import Constant, Memory
from codesign.hardware.technology import Operations, Technology
from codesign.hardware.workload import Layer, Product, Workload

STRUCTURES = ("dense", "coarse_grain")
WEIGHTS = ("binary", "ternary", "fixed")
BUFFER_WORDS = Constant(
    2239.0,
    "weights/lane",
    "Ardakani et al., ICLR 2019, 100 lanes of 12 bits at 65 nm: what of its 2.56 mm2 lanes and pipeline leave",
    "calibrated",
)
"""Buffer between memory outside the chip and the lanes."""
SELECTOR_WORD = 64
"""Bits of a word of the selectors' memory; an assumption."""


def _multiplies(workload: Workload) -> bool:
    """Whether lanes have multipliers: one fixed-point kernel asks for them in all."""
    return any(p.number_format not in MULTIPLIER_FREE for products in workload.gate_kernels.values() for p in products)


def _chunks(product: Product, n_pe: Array) -> Array:
    return np.asarray(np.ceil(product.gates * product.padded_rows / n_pe), np.float64)


def _passes(product: Product, n_pe: Array) -> Array:
    """Equation (1): cycles in which a column meets a chunk."""
    return _chunks(product, n_pe) * product.columns


def _head_passes(workload: Workload, n_pe: Array) -> Array:
    """Equation (3)."""
    return np.asarray(np.ceil(head_rows(workload, _multiplies(workload)) / n_pe) * workload.head.columns, np.float64)


def _groups(product: Product, n_pe: Array) -> Array:
    """Groups of a chunk's rows that each select activations of their own; one where nothing is selected."""
    rows = np.minimum(n_pe, product.gates * product.padded_rows)
    return np.asarray(np.ceil(rows / product.level2_block) if product.level2_block else np.ones_like(rows), np.float64)


def _scalings(workload: Workload, layer: Layer) -> int:
    """Multiplications by the constant of binary and ternary words; batch normalisation holds it already."""
    if workload.batch_norm != "none":
        return 0
    signed = [kernel for kernel in layer.kernels if kernel.number_format in MULTIPLIER_FREE]
    return sum(kernel.gates * kernel.rows for kernel in signed)


def _in_sight(workload: Workload, layer: Layer, n_pe: Array) -> Array:
    """Equation (2)."""
    x, h = layer.input_kernel, layer.recurrent_kernel
    n_products = layer.multiplications + layer.lookups + _scalings(workload, layer)
    n_chunks = np.maximum(_chunks(x, n_pe), _chunks(h, n_pe))
    chunk_takes = np.ceil(n_products / (ELEMENT_WISE_MULTIPLIERS * n_chunks))
    return np.asarray(chunk_takes + (n_chunks - 1) * np.maximum(0.0, chunk_takes - x.columns - h.columns), np.float64)


def _read_bits(products: list[Product]) -> int:
    """Bits of the weights that a step needs."""
    return sum(p.gates * p.padded_rows * p.columns * p.word_length for p in products)


def _cycles(workload: Workload, settings: Settings, n_pe: Array) -> Parts:
    zero = np.zeros_like(n_pe)
    products = {
        name: sum((_passes(kernel, n_pe) for kernel in kernels), start=zero)
        for name, kernels in workload.gate_kernels.items()
    }
    bits = sum(map(_read_bits, workload.gate_kernels.values()))
    working = products["input_kernel"] + products["recurrent_kernel"]
    return products | {
        "element_wise": sum((_in_sight(workload, layer, n_pe) for layer in workload.layers), start=zero),
        "head": _head_passes(workload, n_pe),
        "fill": np.full_like(n_pe, FILL * (len(workload.layers) + 1)),
        "dram_wait": np.maximum(0.0, settings.dram_cycles(bits) - working),
    }


def _memories(workload: Workload, settings: Settings, n_pe: Array) -> dict[str, Memory]:
    """A word of a kernel's memory, and of the buffer, feeds all lanes."""
    memories, one = {}, np.ones_like(n_pe)
    for name, products in workload.gate_kernels.items():
        depth = sum((_chunks(p, n_pe) * p.row_macs for p in products), start=np.zeros_like(n_pe))
        memories[name] = Memory(n_pe * products[0].word_length, np.where(settings.off_chip, 0.0, depth))
    widest = max(product.word_length for products in workload.gate_kernels.values() for product in products)
    memories["buffer"] = Memory(n_pe * widest, np.where(settings.off_chip, BUFFER_WORDS.value, 0.0))
    if workload.storage["indices"]:
        memories["selectors"] = Memory(SELECTOR_WORD * one, np.ceil(workload.storage["indices"] / SELECTOR_WORD) * one)
    groups = np.max([_groups(p, n_pe) for p in workload.products], axis=0)
    x = workload.layers[0].input_kernel
    n_states = sum(layer.recurrent_kernel.padded_cols for layer in workload.layers)
    n_activations = (0 if x.one_hot else x.padded_cols) + 2 * n_states
    memories["activations"] = Memory(groups * workload.activation_bits, n_activations * one)
    head = Memory(n_pe * head_word_bits(workload, _multiplies(workload)), _head_passes(workload, n_pe))
    return memories | step_memories(workload, n_pe) | {"head": head}


def _energy(
    workload: Workload, settings: Settings, n_pe: Array, memories: dict[str, Memory], operations: Operations
) -> Parts:
    """A weight is read once, or brought in and written to and read from the buffer; an activation once a pass."""
    bits, multiplies = workload.activation_bits, _multiplies(workload)
    add_j = operations.add_j(sum_bits(workload, multiplies))
    activation_j = bits * operations.read_j(memories["activations"])
    buffer_j = 2 * operations.read_j(memories["buffer"])
    parts: Parts = {}
    for name, products in workload.gate_kernels.items():
        mac_j = product_j(products[0].number_format, products[0].word_length, bits, operations) + add_j
        passes = [_passes(p, n_pe) * _groups(p, n_pe) for p in products]
        bit_j = np.where(settings.off_chip, buffer_j, operations.read_j(memories[name]))
        parts[f"{name}_macs"] = np.full_like(n_pe, sum(p.macs for p in products) * mac_j)
        parts[f"{name}_weights"] = _read_bits(products) * bit_j
        parts[f"{name}_activations"] = sum(passes, start=np.zeros_like(n_pe)) * activation_j
        parts[f"{name}_dram"] = settings.dram_j(_read_bits(products))
    if "selectors" in memories:
        parts["selectors"] = workload.storage["indices"] * operations.read_j(memories["selectors"])
    scalings = sum(_scalings(workload, layer) for layer in workload.layers)
    return parts | {
        "scalings": np.full_like(n_pe, scalings * operations.multiply_j(bits, STATE_BITS)),
        **step_energy(workload, memories, operations),
        "head_macs": np.full_like(n_pe, head_macs_j(workload, multiplies, operations)),
        "head_activations": _head_passes(workload, n_pe) * activation_j,
    }


def _fabric(workload: Workload, n_pe: Array) -> dict[str, Parts]:
    """As the serial core's lanes, of which lanes that do not multiply leave out the DSP."""
    multiplies = _multiplies(workload)
    widest = max(product.word_length for products in workload.gate_kernels.values() for product in products)
    sums = sum_bits(workload, multiplies)
    fabric = lane_fabric(n_pe, sums, workload.activation_bits, 1, n_pe * widest)
    fabric["dsp"]["lanes"] = n_pe * multiplies
    return fabric


def _area(workload: Workload, n_pe: Array, operations: Operations) -> Parts:
    """A lane has what the dearest kernel asks for; its multiplier takes the output layer's words too."""
    bits, multiplies = workload.activation_bits, _multiplies(workload)
    kernels = [product for products in workload.gate_kernels.values() for product in products]
    lanes = [product_mm2(p.number_format, p.word_length, bits, operations) for p in kernels]
    if multiplies:
        lanes.append(product_mm2("fixed", workload.head.word_length, bits, operations))
    sums = sum_bits(workload, multiplies)
    pipeline = lane_area(n_pe, 1, bits, sums, operations)["element_wise"]
    return {"lanes": n_pe * (max(lanes) + operations.add_mm2(sums)), "element_wise": pipeline}


def _faults(workload: Workload, settings: Settings) -> tuple[NDArray[np.int64], dict[str, Any]]:
    mask, facts = network_faults(workload, "binary_ternary", STRUCTURES, WEIGHTS, lacks=("projection", "peepholes"))
    misfit, rule = selector_faults(workload, settings.n_pe)
    infeasible = np.full(len(settings), int(mask), np.int64)
    infeasible |= np.where(settings.batch > 1, int(Infeasible.BATCH), 0)
    return infeasible | misfit, facts | rule


def _unproven(workload: Workload, settings: Settings) -> tuple[str, ...]:
    kernels = [kernel for layer in workload.layers for kernel in layer.kernels]
    doubts = {
        "binary_ternary has no RTL; the paper gives the rate of its lanes, and cycles of no step": True,
        "the output layer runs on the same lanes, bit by bit; the paper has none on its chip": (
            not _multiplies(workload)
        ),
        "the buffer's depth was calibrated on one recalled area (2.56 mm2); no publication speaks of a buffer": bool(
            settings.off_chip.any()
        ),
        "lanes of binary or ternary weights with static selectors are our combination": any(
            kernel.structure == "coarse_grain" for kernel in kernels
        ),
        "without batch normalisation each product takes one multiplication by its constant, which the paper "
        "does not have": any(_scalings(workload, layer) for layer in workload.layers),
    }
    return tuple(text for text, applies in doubts.items() if applies)


def estimate(workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """Cost of one time step on the lanes."""
    n_pe, operations = settings.n_pe.astype(np.float64), technology.operations
    memories = _memories(workload, settings, n_pe)
    infeasible, facts = _faults(workload, settings)
    bill = Bill(
        cycles=_cycles(workload, settings, n_pe),
        energy_j=_energy(workload, settings, n_pe, memories, operations),
        fabric=_fabric(workload, n_pe),
        area_mm2=_area(workload, n_pe, operations),
        memories=memories,
        infeasible=infeasible,
        facts=facts,
        unproven=_unproven(workload, settings),
    )
    return price(bill, workload, settings, technology)


BINARY_TERNARY = AcceleratorKind(
    summary="Ardakani et al., ICLR 2019: adding lanes for binary or ternary weights, or multiplying ones",
    structures=STRUCTURES,
    estimate=estimate,
    weights=WEIGHTS,
)
