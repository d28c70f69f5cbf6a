"""An array of multiply-accumulate lanes with one element-wise pipeline: fabric, area, energy.

The fabric formulas are least-squares fits to 12 syntheses of the serial core (Yosys 0.70,
synth_xilinx for the 7-series, flattened; 2 to 32 lanes, circulant blocks of 1 to 16, 16 features,
64 to 128 units, 8 and 12 activation bits). DSP are exact on all 44 syntheses made. FF are within
1.5 % on the fitted and 2.5 % on four others; LUT within 7.5 % and 12.7 %. LUT count logic only
(memories and shift registers in LUTs, 100 to 250 more, are not in it) and come from synthesis, not
from place and route; another Yosys version moved them by 17 %.

Area is that of multipliers, adders and memories; registers and control are not in it.
"""

from dataclasses import dataclass

import numpy as np

from codesign.hardware.cost import Array, Parts
from codesign.hardware.memory import Memory
from codesign.hardware.technology import Operations
from codesign.hardware.workload import Product, Workload


@dataclass(frozen=True)
class FabricFit:
    """Coefficients of a fitted fabric formula, in LUT or FF.

    Attributes:
        base: of the pipeline at 8 activation bits.
        activation_bit: for each activation bit more.
        accumulator_bit: for each bit of all accumulators.
        register_bit: for each bit of the rotating register.
        word_bit: for each bit of a weight-memory word.
    """

    base: float
    activation_bit: float
    accumulator_bit: float
    register_bit: float
    word_bit: float
    source: str = "least squares over 12 syntheses, Yosys 0.70 synth_xilinx, 7-series"
    tag: str = "S"


FF_FIT = FabricFit(base=374, activation_bit=13.8, accumulator_bit=1.00, register_bit=1.92, word_bit=-0.11)
LUT_FIT = FabricFit(base=511, activation_bit=19, accumulator_bit=0.96, register_bit=0.19, word_bit=0)

ELEMENT_WISE_MULTIPLIERS = 5
"""f * c, i * g, o * tanh(c), and the slope of each of the two activation units."""

STATE_BITS = 16
"""Word length of the cell state c and of element-wise results."""

SLOPE_BITS, GUARD_BITS = 10, 2
"""A segment holds a slope and an intercept; the intercept is `GUARD_BITS` longer than an activation."""


def lane_fabric(
    n_pe: Array, accumulator_bits: int, activation_bits: int, register: int, word_bits: Array
) -> dict[str, Parts]:
    """DSP, FF and LUT of the lanes and their pipeline.

    Args:
        register: entries of the rotating register that feeds activations, K.
        word_bits: bits of a weight-memory word.
    """
    register_bits = register * activation_bits
    # fewer lanes than entries take the register in pieces, through as many multiplexers again
    pieces = np.where(n_pe < register, 2.0, 1.0)
    return {
        "dsp": {"lanes": n_pe, "element_wise": np.full_like(n_pe, ELEMENT_WISE_MULTIPLIERS)},
        "ff": _fabric(FF_FIT, n_pe * accumulator_bits, activation_bits, register_bits * np.ones_like(n_pe), word_bits),
        "lut": _fabric(LUT_FIT, n_pe * accumulator_bits, activation_bits, register_bits * pieces, word_bits),
    }


def _fabric(fit: FabricFit, lane_bits: Array, activation_bits: int, register_bits: Array, word_bits: Array) -> Parts:
    """Whole LUT or FF of each part, so that the parts still add up."""
    return {
        "base": np.full_like(lane_bits, round(fit.base + fit.activation_bit * (activation_bits - 8))),
        "lanes": np.round(fit.accumulator_bit * lane_bits + fit.word_bit * word_bits),
        "register": np.round(fit.register_bit * register_bits),
    }


def lane_area(
    n_pe: Array, weight_bits: int, activation_bits: int, accumulator_bits: int, operations: Operations
) -> Parts:
    """Area of the lanes and of the element-wise pipeline [mm2]."""
    lane = operations.multiply_mm2(weight_bits, activation_bits) + operations.add_mm2(accumulator_bits)
    element = operations.multiply_mm2(activation_bits, STATE_BITS) + operations.add_mm2(STATE_BITS)
    return {"lanes": n_pe * lane, "element_wise": ELEMENT_WISE_MULTIPLIERS * element * np.ones_like(n_pe)}


def accumulator_bits(workload: Workload) -> int:
    """Width that no sum of products can overflow: weight + activation + ceil(log2(columns))."""
    kernels: list[tuple[Product, ...]] = [(layer.input_kernel, layer.recurrent_kernel) for layer in workload.layers]
    kernels += [(kernel,) for layer in workload.layers for kernel in layer.kernels[2:]] + [(workload.head,)]
    return workload.activation_bits + max(
        max(kernel.word_length for kernel in group) + (sum(kernel.padded_cols for kernel in group) - 1).bit_length()
        for group in kernels
    )


def step_memories(workload: Workload, n_pe: Array, batch: Array | float = 1.0) -> dict[str, Memory]:
    """Embeddings, biases, cell states, activation tables, the head's weights (a word of these feeds all lanes)."""
    one, head = np.ones_like(n_pe), workload.head
    table_words, table_bits = _table(workload)
    n_states = workload.hidden * len(workload.layers) if workload.cell == "lstm" else 0
    embedding = workload.embedding_word_length
    table = {"embedding": Memory(embedding * one, workload.embedding_words * one)} if workload.embedding else {}
    return table | {
        "biases": Memory(
            workload.layers[0].bias_bits * one,
            (sum(layer.stored_biases for layer in workload.layers) + head.rows) * one,
        ),
        "states": Memory(STATE_BITS * one, n_states * batch * one),
        "function_table": Memory(table_bits * one, table_words * one, copies=2),
        "head": Memory(n_pe * head.word_length, np.ceil(head.rows / n_pe) * head.row_macs),
    }


def _table(workload: Workload) -> tuple[int, int]:
    """Words and bits a word; an exact function is a table of one word an activation value."""
    if workload.function == "hard":
        return 0, 0
    if workload.segments is None:
        return 2**workload.activation_bits, workload.activation_bits
    return workload.segments, SLOPE_BITS + workload.activation_bits + GUARD_BITS


def step_energy(workload: Workload, memories: dict[str, Memory], operations: Operations) -> Parts:
    """Energy of everything in a step but the kernels: embedding, biases, element-wise work, look-ups, head [J]."""
    bits, layers, head = workload.activation_bits, workload.layers, workload.head
    accumulator = accumulator_bits(workload)
    read_j = {name: operations.read_j(memory) for name, memory in memories.items()}
    n_biases = sum(layer.n_biases for layer in layers) + head.rows
    n_units = workload.hidden * len(layers)
    n_chunks = np.ceil(head.rows / (memories["head"].width / head.word_length))
    multiplications = sum(layer.multiplications for layer in layers)
    additions = sum(layer.additions for layer in layers)
    lookup_j = operations.multiply_j(SLOPE_BITS, bits) + operations.add_j(bits + GUARD_BITS)
    state_words = 2 if workload.cell == "lstm" else 0
    entry_bits = workload.embedding * workload.embedding_word_length
    table = {"embedding": entry_bits * read_j["embedding"]} if workload.embedding else {}
    return table | {
        "biases": n_biases * (layers[0].bias_bits * read_j["biases"] + operations.add_j(accumulator)),
        "element_wise": np.full_like(
            read_j["biases"],
            multiplications * operations.multiply_j(bits, STATE_BITS) + additions * operations.add_j(STATE_BITS),
        ),
        "lookups": sum(layer.lookups for layer in layers)
        * (lookup_j + memories["function_table"].width * read_j["function_table"]),
        "states": n_units * (state_words * STATE_BITS * read_j["states"] + bits * read_j["activations"]),
        "head_macs": np.full_like(
            read_j["head"],
            head.macs * (operations.multiply_j(head.word_length, bits) + operations.add_j(accumulator)),
        ),
        "head_weights": head.n_words * head.word_length * read_j["head"],
        "head_activations": n_chunks * head.row_macs * bits * read_j["activations"],
    }
