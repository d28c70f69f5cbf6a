"""What it takes to multiply an activation by a weight, by how the weight is written.

    fixed          a multiplier
    power_of_two   a sign, then (bits - 1) stages of a shifter
    ternary        a sign and a gate
    binary         a sign

The sign is an exclusive or on each bit of the activation, and the carry of the adder that takes the product;
a gate is an and; a stage of the shifter is a multiplexer on each bit of the product. All are priced in full
adders: by the sizes of their cells for the area, and by the same ratios, which is an assumption, for the
energy. On an FPGA sign and gate fit into the look-up tables of that adder, and one look-up table of six
inputs is two stages of a shifter.

The output layer's words are fixed-point. Where lanes have no multiplier, a row of b-bit words is b rows of one
bit each, and their sums are shifted and added as they leave.
"""

from dataclasses import replace

from codesign.hardware.accelerators.lanes import accumulator_bits
from codesign.hardware.memory import Constant
from codesign.hardware.technology import Operations
from codesign.hardware.workload import Workload

_CELLS = "Nangate 45 nm open cell library, widths in OpenROAD's test/Nangate45/Nangate45_stdcell.lef"
SIGN = Constant(1.14 / 3.04, "full adders/bit", f"{_CELLS}: XOR2_X1 over FA_X1", "C")
GATE = Constant(0.76 / 3.04, "full adders/bit", f"{_CELLS}: AND2_X1 over FA_X1", "C")
STAGE = Constant(1.33 / 3.04, "full adders/bit", f"{_CELLS}: MUX2_X1 over FA_X1", "C")

MULTIPLIER_FREE = ("power_of_two", "binary", "ternary")
STAGES_IN_LUT = 2


def _full_adders(number_format: str, weight_bits: int, activation_bits: int) -> float:
    stages = weight_bits - 1 if number_format == "power_of_two" else 0
    gates = GATE.value if number_format == "ternary" else 0.0
    return (SIGN.value + gates) * activation_bits + STAGE.value * stages * (activation_bits + weight_bits)


def product_j(number_format: str, weight_bits: int, activation_bits: int, operations: Operations) -> float:
    """Energy of one product [J], its addition apart."""
    if number_format in MULTIPLIER_FREE:
        return operations.add_j(_full_adders(number_format, weight_bits, activation_bits))
    return operations.multiply_j(weight_bits, activation_bits)


def product_mm2(number_format: str, weight_bits: int, activation_bits: int, operations: Operations) -> float:
    """Area of what makes the products [mm2], the adder apart."""
    if number_format in MULTIPLIER_FREE:
        return operations.add_mm2(_full_adders(number_format, weight_bits, activation_bits))
    return operations.multiply_mm2(weight_bits, activation_bits)


def product_lut(number_format: str, weight_bits: int, activation_bits: int) -> int:
    """LUT of what makes the products without a DSP, those of the adder apart."""
    stages = weight_bits - 1 if number_format == "power_of_two" else 0
    return -(-stages // STAGES_IN_LUT) * (activation_bits + weight_bits)


def head_rows(workload: Workload, multiplies: bool) -> int:
    """Rows of the output layer as lanes take them; `multiplies`: lanes have multipliers."""
    return workload.head.rows * (1 if multiplies else workload.head.word_length)


def head_word_bits(workload: Workload, multiplies: bool) -> int:
    """Bits of the output layer that a lane takes in a cycle."""
    return workload.head.word_length if multiplies else 1


def sum_bits(workload: Workload, multiplies: bool) -> int:
    """Width that no sum of a lane can overflow."""
    head = replace(workload.head, word_length=head_word_bits(workload, multiplies))
    return accumulator_bits(replace(workload, head=head))


def head_macs_j(workload: Workload, multiplies: bool, operations: Operations) -> float:
    """Energy of the output layer's multiply-accumulates [J]."""
    word_bits, bits = head_word_bits(workload, multiplies), workload.activation_bits
    kind = "fixed" if multiplies else "ternary"  # a bit keeps an activation or leaves it out, the highest negates it
    mac_j = product_j(kind, word_bits, bits, operations) + operations.add_j(sum_bits(workload, multiplies))
    return head_rows(workload, multiplies) * workload.head.columns * mac_j
