"""Wang, Lin, Wang, TVLSI 2017: each gate's two matrices on boards of their own, P x P multiply-accumulate units.

    P = sqrt(n_pe / boards),   boards = 2 * gates                                       (1)
    product = ceil(H / P) * ceil(N / P) cycles, all boards at the same time             (2)
    layer = max(input product, recurrent product) + element-wise work in sight          (3)
    head = ceil(C / (boards * P)) * ceil(H / P), C output rows on all boards             (4)
    words a board fetches in a cycle = P^2 / min(k, P)                                  (5)

In a cycle a board multiplies a square of P x P neighbouring weights: P activations enter by its columns, P
sums leave by its rows. A sweep over a circulant block meets its k words in k / P squares, P a square; smaller
blocks give (5), with k = 1 where a kernel is dense. P must be a multiple or a divisor of k, or the squares
would not fit the blocks. The element-wise work on P rows is hidden behind the products of the next
P, and for the last ones behind those of the next step, as long as it is shorter than a sweep over the columns.

What is assumed and what is recalled: docs/accelerators/chessboard.md.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.hardware.accelerators.dense import FILL
from codesign.hardware.accelerators.kind import AcceleratorKind, Bill, Settings, network_faults, price
from codesign.hardware.accelerators.lanes import (
    ELEMENT_WISE_MULTIPLIERS,
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
    product_lut,
    product_mm2,
    sum_bits,
)
from codesign.hardware.cost import Array, Cost, Infeasible, Parts
from codesign.hardware.memory import Memory
from codesign.hardware.technology import Operations, Technology
from codesign.hardware.workload import Layer, Product, Workload

STRUCTURES = ("dense", "block_circulant")
WEIGHTS = ("fixed", "power_of_two")
MOST_UNITS = 65536
"""No larger number is offered: an `Accelerator` has no more."""


def _boards(workload: Workload) -> int:
    return 2 * workload.layers[0].recurrent_kernel.gates


def _side(workload: Workload, n_pe: Array) -> Array:
    """P of equation (1), rounded down; 1 where there are fewer units than boards."""
    return np.maximum(1.0, np.floor(np.sqrt(n_pe / _boards(workload))))


def _multiplies(workload: Workload) -> bool:
    """Whether the units of all boards have multipliers."""
    return not any(p.number_format in MULTIPLIER_FREE for products in workload.gate_kernels.values() for p in products)


def _squares(product: Product, side: Array) -> Array:
    """Equation (2)."""
    return np.asarray(np.ceil(product.padded_rows / side) * np.ceil(product.columns / side), np.float64)


def _fetched(product: Product, side: Array) -> Array:
    """Equation (5)."""
    return np.asarray(side * side / np.minimum(product.block_size, side), np.float64)


def _head_squares(workload: Workload, side: Array) -> Array:
    """Equation (4)."""
    rows = np.ceil(head_rows(workload, _multiplies(workload)) / (_boards(workload) * side))
    return np.asarray(rows * np.ceil(workload.head.columns / side), np.float64)


def _element_wise(workload: Workload, layer: Layer, side: Array) -> Array:
    """Cycles of equation (3) in which the boards wait; one element-wise pipeline for each row of a board."""
    n_products = (layer.multiplications + layer.lookups) / workload.hidden
    rows_take = np.ceil(n_products / ELEMENT_WISE_MULTIPLIERS)
    x, h = layer.input_kernel, layer.recurrent_kernel
    x_sweep, h_sweep = np.ceil(x.columns / side), np.ceil(h.columns / side)
    between = np.ceil(h.padded_rows / side) * np.maximum(0.0, rows_take - np.maximum(x_sweep, h_sweep))
    # the last entries of h are needed at the end of the first sweep over it
    after = np.maximum(0.0, rows_take + FILL - (h_sweep - 1))
    return np.asarray(between + after, np.float64)


def _cycles(workload: Workload, n_pe: Array) -> Parts:
    side = _side(workload, n_pe)
    turns = np.ceil(np.maximum(1.0, _boards(workload) / n_pe))  # too few units take the matrices in turn
    zero, layers = np.zeros_like(side), workload.layers
    products = (
        np.maximum(_squares(layer.input_kernel, side), _squares(layer.recurrent_kernel, side)) for layer in layers
    )
    return {
        "products": turns * sum(products, start=zero),
        "element_wise": sum((_element_wise(workload, layer, side) for layer in layers), start=zero),
        "head": turns * _head_squares(workload, side),
    }


def _memories(workload: Workload, n_pe: Array) -> dict[str, Memory]:
    """A memory for each board; x and h in two banks, P entries a word; the head's words feed all boards."""
    side, memories = _side(workload, n_pe), {}
    for name, products in workload.gate_kernels.items():
        # all squares on a diagonal of a circulant block hold the same words
        distinct = np.minimum(1.0, side / products[0].block_size)
        squares = [np.ceil(p.padded_rows / side) * np.ceil(p.row_macs / side) for p in products]
        depth = sum((np.ceil(distinct * n) for n in squares), start=np.zeros_like(side))
        memories[name] = Memory(_fetched(products[0], side) * products[0].word_length, depth, products[0].gates)
    x, h = workload.layers[0].input_kernel, workload.layers[0].recurrent_kernel
    entries = side * workload.activation_bits
    memories["inputs"] = Memory(entries, np.ceil((0 if x.one_hot else x.padded_cols) / side), copies=2)
    memories["activations"] = Memory(entries, np.ceil(h.padded_cols / side), copies=2 * len(workload.layers))
    multiplies = _multiplies(workload)
    boards = np.minimum(_boards(workload), np.ceil(head_rows(workload, multiplies) / side))
    width = boards * side * side * head_word_bits(workload, multiplies)
    return memories | step_memories(workload, n_pe) | {"head": Memory(width, _head_squares(workload, side))}


def _energy(workload: Workload, n_pe: Array, memories: dict[str, Memory], operations: Operations) -> Parts:
    """Each square reads its words from every gate's memory, and P activations once for all gates."""
    side, bits, multiplies = _side(workload, n_pe), workload.activation_bits, _multiplies(workload)
    add_j = operations.add_j(sum_bits(workload, multiplies))
    entries_j = {name: side * bits * operations.read_j(memories[name]) for name in ("inputs", "activations")}
    parts: Parts = {}
    for name, products in workload.gate_kernels.items():
        first = products[0]
        mac_j = product_j(first.number_format, first.word_length, bits, operations) + add_j
        squares = [_squares(p, side) for p in products]
        word_j = first.word_length * operations.read_j(memories[name])
        from_x = squares[0] * (name == "input_kernel")
        parts[f"{name}_macs"] = np.full_like(side, sum(p.macs for p in products) * mac_j)
        parts[f"{name}_weights"] = sum(squares) * first.gates * _fetched(first, side) * word_j
        parts[f"{name}_activations"] = (
            from_x * (not first.one_hot) * entries_j["inputs"] + (sum(squares) - from_x) * entries_j["activations"]
        )
    return parts | {
        **step_energy(workload, memories, operations),
        "head_macs": np.full_like(side, head_macs_j(workload, multiplies, operations)),
        "head_activations": _head_squares(workload, side) * entries_j["activations"],
    }


def _unit_bits(workload: Workload, product: Product) -> int:
    """Word length that a unit takes: on multipliers the output layer's too."""
    return max(product.word_length, workload.head.word_length) if _multiplies(workload) else product.word_length


def _fabric(workload: Workload, n_pe: Array) -> dict[str, Parts]:
    """Units as lanes of the serial core, one of its pipelines for each row of a board."""
    side, bits = _side(workload, n_pe), workload.activation_bits
    sums = sum_bits(workload, _multiplies(workload))
    firsts = [products[0] for products in workload.gate_kernels.values()]
    words = [p.gates * _fetched(p, side) * p.word_length for p in firsts]
    fabric = lane_fabric(n_pe, sums, bits, 1, words[0] + words[1])
    for name in ("ff", "lut"):
        fabric[name]["base"] = side * fabric[name]["base"]
    multipliers = sum(p.number_format not in MULTIPLIER_FREE for p in firsts)
    shifters = sum(product_lut(p.number_format, p.word_length, bits) for p in firsts)
    fabric["dsp"] = {"units": np.ceil(n_pe * multipliers / 2), "element_wise": ELEMENT_WISE_MULTIPLIERS * side}
    fabric["lut"]["shifters"] = np.ceil(n_pe * shifters / 2)
    return fabric


def _area(workload: Workload, n_pe: Array, operations: Operations) -> Parts:
    bits, sums = workload.activation_bits, sum_bits(workload, _multiplies(workload))
    firsts = [products[0] for products in workload.gate_kernels.values()]
    units = [product_mm2(p.number_format, _unit_bits(workload, p), bits, operations) for p in firsts]
    pipeline = lane_area(n_pe, 1, bits, sums, operations)["element_wise"]
    return {
        "units": n_pe * (sum(units) / 2 + operations.add_mm2(sums)),
        "element_wise": _side(workload, n_pe) * pipeline,
    }


def _fits(blocks: list[int], side: NDArray[np.int64]) -> NDArray[np.bool_]:
    fits = np.ones(side.shape, np.bool_)
    for block in blocks:
        fits &= (side % block == 0) | (block % side == 0)
    return fits


def _faults(workload: Workload, settings: Settings) -> tuple[NDArray[np.int64], dict[str, Any]]:
    lacks = ("projection", "batch normalisation", "peepholes")
    mask, facts = network_faults(workload, "chessboard", STRUCTURES, WEIGHTS, lacks=lacks)
    boards = _boards(workload)
    blocks = sorted({p.block_size for products in workload.gate_kernels.values() for p in products})
    sides = np.arange(1, int((MOST_UNITS // boards) ** 0.5) + 1)
    useful = boards * sides[_fits(blocks, sides)] ** 2
    side = _side(workload, settings.n_pe.astype(np.float64)).astype(np.int64)
    fits = (boards * side**2 == settings.n_pe) & _fits(blocks, side)
    infeasible = np.full(len(settings), int(mask), np.int64)
    infeasible |= np.where(settings.batch > 1, int(Infeasible.BATCH), 0)
    infeasible |= np.where(settings.off_chip, int(Infeasible.OFF_CHIP), 0)
    infeasible |= np.where(fits, 0, int(Infeasible.PE_FITS_KIND))
    circulant = [str(block) for block in blocks if block > 1]
    blocks_rule = f", P a multiple or a divisor of block_size = {' and '.join(circulant)}" if circulant else ""
    return infeasible, facts | {
        "pe_rule": f"it must be {boards} boards of P * P units{blocks_rule}",
        "useful_n_pe": useful[np.minimum(np.searchsorted(useful, settings.n_pe), len(useful) - 1)],
    }


def _unproven(workload: Workload) -> tuple[str, ...]:
    kernels = [kernel for layer in workload.layers for kernel in layer.kernels]
    doubts = {
        "the chessboard has no RTL; of its figures only a latency is published, and the clock to it is recalled": True,
        "element-wise work is taken to be hidden behind the products, and the output layer to run on all boards": True,
        "circulant blocks smaller than the matrix are our extension; a sweep that enters one is taken to have "
        "fetched its first square's words ahead": any(1 < kernel.block_size < kernel.cols for kernel in kernels),
        "the GRU is not in the paper; its cycles follow by the same counting": workload.cell == "gru",
        "words that are powers of two are priced by cells; shifted products are cut to the sum's width": (
            not _multiplies(workload)
        ),
    }
    return tuple(text for text, applies in doubts.items() if applies)


def estimate(workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """Cost of one time step on the boards."""
    n_pe, operations = settings.n_pe.astype(np.float64), technology.operations
    memories = _memories(workload, n_pe)
    infeasible, facts = _faults(workload, settings)
    bill = Bill(
        cycles=_cycles(workload, n_pe),
        energy_j=_energy(workload, n_pe, memories, operations),
        fabric=_fabric(workload, n_pe),
        area_mm2=_area(workload, n_pe, operations),
        memories=memories,
        infeasible=infeasible,
        facts=facts,
        unproven=_unproven(workload),
    )
    return price(bill, workload, settings, technology)


CHESSBOARD = AcceleratorKind(
    summary="Wang, Lin, Wang, TVLSI 2017: all gates at once on boards of P x P units, dense or circulant kernels",
    structures=STRUCTURES,
    estimate=estimate,
    weights=WEIGHTS,
)
