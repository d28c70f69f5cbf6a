"""TIE (Deng et al., ISCA 2019) and FDHT-LSTM (Gong et al., IEEE TC 2022): tensor kernels contracted step by step.

n_pe multiply-accumulate units are P processing elements of M = 16 units. A step of a contraction, a matrix
(columns, K) times one (K, rows), gives each element a column and each unit of it a row, and takes in cycles

    work = ceil(B * columns / P) * ceil(rows / M) * K                                                      (1)

where the B streams of a batch are further columns; a step that no input has entered yet runs once a batch.
Every unit writes its results into a bank of its own, and the next step reads them in another order: this is
the transposition. The P words of a cycle take c cycles where c of them lie in one bank, and c is (2) in a
tensor train, whose results lie in TIE's banks, and 1 in a hierarchical Tucker tree, whose results lie as
FDHT-LSTM has them:

    cycles = sum over steps (c * work + PIPELINE) + dense kernels + element-wise + head + fill             (3)

Dense kernels and the head take a weight of its own for every unit, as in `dense`. All weights lie on the chip.

Equations (2) and (4) to (7), what is assumed and what is recalled: docs/accelerators/tensor_contraction.md.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.hardware.accelerators.dense import FILL
from codesign.hardware.accelerators.kind import AcceleratorKind, Bill, Settings, network_faults, price
from codesign.hardware.accelerators.lanes import lane_area, lane_fabric, step_energy, step_memories
from codesign.hardware.cost import Array, Cost, Infeasible, Parts
from codesign.hardware.memory import Constant, Memory
from codesign.hardware.technology import FpgaPart, Operations, Technology
from codesign.hardware.workload import Contraction, Gather, Product, Workload

STRUCTURES = ("dense", "hierarchical_tucker", "tensor_train")
GROUPED = ("tensor_train",)
"""Structures whose intermediate results lie in TIE's banks; those of others lie free of conflicts."""

UNITS = Constant(16, "1", "Deng et al., TIE, ISCA 2019: multiply-accumulate units of a processing element", "M")
PIPELINE = 6
"""Cycles from the last operands of a step to the first of the next: read, select, multiply, accumulate, round
and write; an assumption."""


def elements(n_pe: Array) -> Array:
    """Processing elements that so many units make: a power of two, as bits of an address choose a bank."""
    return np.asarray(np.exp2(np.floor(np.log2(np.maximum(n_pe / UNITS.value, 1.0)))), np.float64)


def work(step: Contraction, n_elements: Array, batch: Array) -> Array:
    """Cycles of the multiply-accumulates of a step, equation (1)."""
    columns = step.columns * (batch if step.from_input else np.ones_like(batch))
    return np.asarray(np.ceil(columns / n_elements) * np.ceil(step.rows / UNITS.value) * step.contracted, np.float64)


def conflicts(gather: Gather, n_elements: Array, batch: Array) -> Array:
    """The most words of a read that one bank holds, equation (2).

    All reads of a step take as long as its worst one. Exact where sizes nest (of two that meet, one
    divides the other); elsewhere never too few.
    """
    banks, rows, inner = n_elements.astype(np.int64), gather.rows, gather.inner
    common = np.gcd(banks, gather.stride)
    columns = np.where(banks < rows, _touched(banks, rows, banks), _over(banks, rows))
    runs = _touched(columns, inner, np.where(banks % rows, 1, columns))
    apart = (inner <= common) & (gather.stride > 0)  # only the same column of two runs can share a bank
    runs = np.minimum(np.where(apart, _over(columns, inner), runs), (gather.outer * batch).astype(np.int64))
    alike = _over(runs * common, banks) * _over(inner, common) if gather.transposes else np.ones_like(runs)
    return np.asarray(_over(np.minimum(banks, rows), int(UNITS.value)) * np.minimum(runs, alike), np.float64)


def _touched(n: NDArray[np.int64], size: int, start: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most pieces of a size that n in a row have a part in; they begin at a multiple of `start`."""
    return _over(n + size - np.gcd(start, size), size)


def _over(a: NDArray[np.int64] | int, b: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Quotients, rounded up."""
    return np.asarray(-(-a // b), np.int64)


def stalls(product: Product, n_elements: Array, batch: Array) -> Array:
    """Cycles in which a product waits for its banks; a step leaves elements idle where fewer are done sooner."""
    waits = np.zeros_like(n_elements)
    for step in product.steps:
        if product.structure not in GROUPED or step.gather is None:
            continue
        best = np.full_like(n_elements, np.inf)
        for power in range(int(np.log2(n_elements.max())) + 1):
            used = np.full_like(n_elements, 2.0**power)
            cycles = work(step, used, batch) * conflicts(step.gather, used, batch)
            best = np.where(used <= n_elements, np.minimum(best, cycles), best)
        waits = waits + best - work(step, n_elements, batch)
    return waits


def _kernels(workload: Workload) -> dict[str, list[Product]]:
    kernels = {
        "input_kernel": [layer.input_kernel for layer in workload.layers],
        "recurrent_kernel": [layer.recurrent_kernel for layer in workload.layers],
    }
    projections = [layer.projection for layer in workload.layers if layer.projection is not None]
    return kernels | ({"projection": projections} if projections else {})


def _tensors(workload: Workload) -> list[Product]:
    return [product for product in workload.products if product.steps]


def _chunks(product: Product, n_pe: Array) -> Array:
    """Rows that each unit takes of a dense kernel."""
    return np.asarray(np.ceil(product.gates * product.padded_rows / n_pe), np.float64)


def _product_cycles(product: Product, n_pe: Array, batch: Array) -> Array:
    if not product.steps:
        return batch * _chunks(product, n_pe) * product.columns
    return np.asarray(np.sum([work(step, elements(n_pe), batch) for step in product.steps], axis=0), np.float64)


def _cycles(workload: Workload, n_pe: Array, batch: Array) -> Parts:
    """Equation (3)."""
    kernels, tensors, zero = _kernels(workload), _tensors(workload), np.zeros_like(n_pe)
    n_fills = FILL * (len(workload.layers) + 1) + PIPELINE * sum(len(product.steps) for product in tensors)
    return {
        **{
            name: np.sum([_product_cycles(p, n_pe, batch) for p in products], axis=0)
            for name, products in kernels.items()
        },
        "transposition": sum((stalls(product, elements(n_pe), batch) for product in tensors), start=zero),
        "element_wise": batch * np.sum([np.ceil(layer.multiplications / n_pe) for layer in workload.layers], axis=0),
        "head": _product_cycles(workload.head, n_pe, batch),
        "fill": np.full_like(n_pe, n_fills),
    }


def _macs(product: Product, batch: Array) -> Array:
    """Multiply-accumulates of a product for all streams."""
    if not product.steps:
        return product.macs * batch
    before = sum(step.macs for step in product.steps if not step.from_input)
    return before + sum(step.macs for step in product.steps if step.from_input) * batch


def utilisation(workload: Workload, cycles: Parts, n_pe: Array, batch: Array) -> Array:
    """Share of the units at work while the kernels run, equation (7)."""
    kernels = _kernels(workload)
    macs = np.sum([_macs(product, batch) for products in kernels.values() for product in products], axis=0)
    return np.asarray(
        macs / (n_pe * sum((cycles[name] for name in kernels), start=cycles["transposition"])), np.float64
    )


def _stored_words(product: Product) -> int:
    """Words of the factors, and of the products of factors that a step makes of them."""
    return product.n_words + sum(step.n_words for step in product.steps if not step.from_input)


def working_words(workload: Workload) -> int:
    """The largest operand or result that depends on the input."""
    steps = [step for product in _tensors(workload) for step in product.steps if step.from_input]
    return max((max(step.left_words, step.n_words) for step in steps), default=0)


def _memories(workload: Workload, n_pe: Array, batch: Array) -> dict[str, Memory]:
    """Equation (6): a word of a tensor kernel feeds the units of one element, and all elements alike."""
    memories, one, tensors = {}, np.ones_like(n_pe), _tensors(workload)
    for name, products in _kernels(workload).items():
        if products[0].steps:
            depth = np.ceil(sum(map(_stored_words, products)) / UNITS.value)
            memories[name] = Memory(UNITS.value * products[0].word_length * one, depth * one)
        else:
            depths = np.sum([_chunks(p, n_pe) * p.row_macs for p in products], axis=0)
            memories[name] = Memory(n_pe * products[0].word_length, depths)
    x, bits = workload.layers[0].input_kernel, workload.activation_bits
    n_inputs = 0 if x.one_hot or x.steps else x.cols
    # sums of the gates from one kernel to the other; the GRU keeps those of its candidate apart
    n_sums = (x.gates + (workload.cell == "gru")) * workload.hidden if tensors else 0
    n_activations = n_inputs + 2 * workload.hidden * len(workload.layers) + n_sums
    memories["activations"] = Memory(bits * one, n_activations * batch)
    if tensors:
        memories["working"] = Memory(n_pe * bits, np.ceil(working_words(workload) * batch / n_pe), copies=2)
    return memories | step_memories(workload, n_pe, batch)


def _accumulator_bits(workload: Workload) -> int:
    """Width that no sum of a step, a dense kernel or the head can overflow, with a bit to add up both kernels."""

    def bits(product: Product) -> int:
        longest = max((step.contracted for step in product.steps), default=product.padded_cols)
        return product.word_length + (longest - 1).bit_length()

    return workload.activation_bits + max(map(bits, workload.products)) + 1


def traffic(product: Product, n_pe: Array, batch: Array) -> tuple[Array, Array]:
    """Words that a step of one stream reads and writes: of weights (4) and of activations (5)."""
    one, n_elements = np.ones_like(n_pe), elements(n_pe)
    if not product.steps:
        looked_up = product.n_words * product.columns // product.row_macs
        return looked_up / batch, _chunks(product, n_pe) * product.columns
    weights, activations = np.zeros_like(n_pe), product.gates * product.rows * one
    for step in product.steps:
        streams = batch if step.from_input else one
        left = step.left_words * np.ceil(step.rows / UNITS.value) * one + step.n_words
        weights = weights + step.right_words * np.ceil(step.columns * streams / n_elements) / batch
        if step.from_input:
            activations = activations + left
        else:
            weights = weights + left / batch
    return weights, activations


def _kernel_energy(
    workload: Workload, n_pe: Array, batch: Array, memories: dict[str, Memory], operations: Operations
) -> Parts:
    bits, add_j = workload.activation_bits, operations.add_j(_accumulator_bits(workload))
    parts: Parts = {}
    for name, products in _kernels(workload).items():
        word_bits = products[0].word_length
        memory = memories["working" if products[0].steps else "activations"]
        macs = np.sum([_macs(product, batch) for product in products], axis=0) / batch
        words = np.array([traffic(product, n_pe, batch) for product in products])
        weights, activations = np.sum(words, axis=0)
        parts[f"{name}_macs"] = macs * (operations.multiply_j(word_bits, bits) + add_j)
        parts[f"{name}_weights"] = weights * word_bits * operations.read_j(memories[name])
        parts[f"{name}_activations"] = activations * bits * operations.read_j(memory)
    return parts


def _faults(workload: Workload, settings: Settings) -> tuple[NDArray[np.int64], dict[str, Any]]:
    mask, facts = network_faults(
        workload, "tensor_contraction", STRUCTURES, lacks=("projection", "batch normalisation", "peepholes")
    )
    units = int(UNITS.value)
    powers = np.exp2(np.ceil(np.log2(np.maximum(settings.n_pe / units, 1.0)))).astype(np.int64)
    infeasible = np.full(len(settings), int(mask), np.int64)
    infeasible |= np.where(settings.off_chip, int(Infeasible.OFF_CHIP), 0)
    infeasible |= np.where(settings.n_pe == units * powers, 0, int(Infeasible.PE_FITS_KIND))
    return infeasible, facts | {
        "pe_rule": f"it counts units, {units} of which make an element, and elements must be a power of two",
        "useful_n_pe": units * powers,
    }


def _unproven(workload: Workload, technology: Technology) -> tuple[str, ...]:
    kinds = {product.structure for product in _tensors(workload)}
    words = {p.word_length for p in _tensors(workload)} | ({workload.activation_bits} if kinds else set())
    doubts = {
        "tensor_contraction has no RTL; 16 units of a processing element are recalled, its tiling is our reading": True,
        "the banks of a tensor train and their conflicts are our reading of TIE's grouped memory": (
            "tensor_train" in kinds
        ),
        "that nothing waits for the transposition of a tree is FDHT-LSTM's claim; its scheme is not known to us": (
            "hierarchical_tucker" in kinds
        ),
        "results between the steps of a contraction have the words of an activation; training does not round them": (
            bool(kinds)
        ),
        "TIE runs layers of one kernel; that dense kernels and the output layer take a weight a unit is ours": True,
        "the multiplexers between banks and processing elements are in no LUT, FF or area": bool(kinds),
        "TIE has 16-bit words; others follow by the same counting": bool(words - {16}),
        "both papers are ASICs; block RAMs are counted as wide words, not one for each bank": (
            isinstance(technology, FpgaPart) and bool(kinds)
        ),
    }
    return tuple(text for text, applies in doubts.items() if applies)


def estimate(workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """Cost of one time step of one stream; a batch runs side by side."""
    n_pe, batch, operations = settings.n_pe.astype(np.float64), settings.batch.astype(np.float64), technology.operations
    memories, cycles = _memories(workload, n_pe, batch), _cycles(workload, n_pe, batch)
    bits, accumulator = workload.activation_bits, _accumulator_bits(workload)
    weight_bits = max(product.word_length for product in workload.products)
    infeasible, facts = _faults(workload, settings)
    energy_j = _kernel_energy(workload, n_pe, batch, memories, operations)
    bill = Bill(
        cycles=cycles,
        energy_j=energy_j | step_energy(workload, memories, operations),
        fabric=lane_fabric(n_pe, accumulator, bits, 1, n_pe * weight_bits),
        area_mm2=lane_area(n_pe, weight_bits, bits, accumulator, operations),
        memories=memories,
        infeasible=infeasible,
        streams=batch,
        facts=facts | {"utilisation": utilisation(workload, cycles, n_pe, batch)},
        unproven=_unproven(workload, technology),
    )
    return price(bill, workload, settings, technology)


TENSOR_CONTRACTION = AcceleratorKind(
    summary="Deng et al., ISCA 2019 (TIE) and Gong et al., IEEE TC 2022 (FDHT-LSTM): tensor or dense kernels",
    structures=STRUCTURES,
    estimate=estimate,
)
