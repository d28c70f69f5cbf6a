"""The serial core: cycles as its RTL counts them, fabric as synthesized, energy as enumerated."""

from typing import Any

import numpy as np
import pytest

from codesign.compression import BlockCirculant, CoarseGrain, Dense, Structure
from codesign.design import Accelerator, Activity, Fixed, Kernel, Network, PiecewiseLinear, TaskShape
from codesign.hardware import Cost, estimate
from codesign.hardware.memory import Memory
from codesign.hardware.technology import technology


def network(structure: Structure, hidden: int, weight_bits: int = 8, bits: int = 8, **fields: Any) -> Network:
    kernel = Kernel(structure=structure, weights=Fixed(bits=weight_bits))
    settings: dict[str, Any] = {
        "cell": "lstm",
        "hidden": hidden,
        "input_kernel": kernel,
        "recurrent_kernel": kernel,
        "head_weights": Fixed(bits=weight_bits),
        "activations": Fixed(bits=bits),
        "activation_function": PiecewiseLinear(),
    }
    return Network(**(settings | fields))


def cost_of(net: Network, n_inputs: int, n_pe: int, activity: Activity | None = None, part: str = "xc7z020") -> Cost:
    on = Accelerator(kind="serial_core", technology=part, n_pe=n_pe)
    return estimate(net, on, TaskShape(n_inputs, 1), activity)


def core_cycles(cost: Cost) -> float:
    """Cycles of the recurrent layers alone, which the RTL runs."""
    return float(cost.cycles[0] - cost.breakdown["cycles"]["head"][0])


def keep(block: int, share: float) -> CoarseGrain:
    return CoarseGrain(level1_block=block, level1_keep=share, level2_block=block, level2_keep=1.0)


# (n_inputs, structure, hidden, n_pe, cycles from start to done in RTL simulation or its exact formula)
CYCLES = [
    (16, BlockCirculant(block_size=8), 64, 16, 1315),
    (16, BlockCirculant(block_size=8), 64, 2, 10261),
    (16, BlockCirculant(block_size=8), 64, 64, 403),
    (40, BlockCirculant(block_size=8), 64, 32, 883),
    (39, BlockCirculant(block_size=8), 64, 32, 883),
    (32, BlockCirculant(block_size=16), 128, 4, 20503),
    (8, Dense(), 128, 32, 2227),
    (8, Dense(), 256, 256, 1331),
    (16, keep(8, 0.5), 64, 8, 1307),
]


@pytest.mark.parametrize(("n_inputs", "structure", "hidden", "n_pe", "cycles"), CYCLES)
def test_cycles_of_one_lstm_layer(n_inputs: int, structure: Structure, hidden: int, n_pe: int, cycles: int) -> None:
    cost = cost_of(network(structure, hidden), n_inputs, n_pe, part="xc7vx690t")
    assert core_cycles(cost) == cycles
    assert cost.feasible[0]


# 16 inputs, 64 units: (block size, n_pe, non-zero blocks of x and h, cycles); x is always non-zero
SKIPPED = [(8, 16, 10, 1326), (8, 16, 5, 686), (8, 16, 2, 302), (1, 32, 16, 372), (1, 32, 40, 452)]


@pytest.mark.parametrize(("block", "n_pe", "non_zero", "cycles"), SKIPPED)
def test_cycles_of_a_step_with_zero_state_blocks(block: int, n_pe: int, non_zero: int, cycles: int) -> None:
    n_blocks, x_blocks = 64 // block, 16 // block
    shares = tuple(float(n == non_zero - x_blocks) for n in range(n_blocks + 1))
    structure = BlockCirculant(block_size=block) if block > 1 else Dense()
    skipping = network(structure, 64, state_threshold=0.1)
    assert core_cycles(cost_of(skipping, 16, n_pe, ({1: {block: shares}},))) == cycles


def test_expected_cycles_are_the_mean_over_steps() -> None:
    skipping = network(BlockCirculant(block_size=8), 64, state_threshold=0.1)
    shares = (0.25, 0, 0, 0.25, 0, 0, 0, 0, 0.5)
    cost = cost_of(skipping, 16, 16, ({1: {8: shares}},))
    assert core_cycles(cost) == 0.25 * 302 + 0.25 * 686 + 0.5 * 1326


def test_without_activity_the_worst_case_is_taken() -> None:
    plain, skipping = (network(Dense(), 64, state_threshold=value) for value in (0.0, 0.1))
    worst = cost_of(skipping, 16, 16)
    assert core_cycles(worst) == core_cycles(cost_of(plain, 16, 16)) + 16 + 64 + 1
    all_live = tuple(float(n == 64) for n in range(65))
    assert core_cycles(worst) == core_cycles(cost_of(skipping, 16, 16, ({1: {1: all_live}},)))


def test_skipping_saves_energy_of_the_recurrent_kernel_only() -> None:
    skipping = network(Dense(), 64, state_threshold=0.1)
    half = tuple(float(n == 32) for n in range(65))
    worst, measured = cost_of(skipping, 16, 16), cost_of(skipping, 16, 16, ({1: {1: half}},))
    for name, part in measured.breakdown["energy_j"].items():
        expected = 0.5 if name.startswith("recurrent_kernel") else 1.0
        assert part[0] == pytest.approx(expected * worst.breakdown["energy_j"][name][0], rel=1e-9, abs=0.0)


def test_static_selectors_skip_nothing() -> None:
    plain, skipping = (network(keep(8, 0.5), 64, state_threshold=value) for value in (0.0, 0.1))
    assert cost_of(plain, 16, 8).cycles == cost_of(skipping, 16, 8).cycles


def test_unmeasured_block_sizes_take_the_worst_case_and_say_so() -> None:
    skipping = network(BlockCirculant(block_size=32), 64, state_threshold=0.1)
    cost = cost_of(skipping, 32, 32, ({1: {1: tuple(float(n == 0) for n in range(65))}},))
    assert core_cycles(cost) == core_cycles(cost_of(skipping, 32, 32))
    assert any("activity is not measured" in text for text in cost.unproven)


def _simulated(cell: str, lx: int, lh: int, hidden: int, n_pe: int) -> int:
    """Passes one by one: each streams its columns, and lasts as long as the drain under it."""
    lengths = [lx + lh] * 4 if cell == "lstm" else [lx + lh, lx + lh, lx, lh]
    cycle = 0
    passes = [length for _ in range(hidden // n_pe) for length in lengths]
    for index, length in enumerate(passes):
        cycle += length if index == len(passes) - 1 else max(length, n_pe)
    return cycle + n_pe + 19


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("n_pe", [1, 8, 64])
def test_cycles_of_two_layers_are_counted_pass_by_pass(cell: str, n_pe: int) -> None:
    cost = cost_of(network(Dense(), 64, cell=cell, layers=2), 5, n_pe)
    layers = _simulated(cell, 5, 64, 64, n_pe) + _simulated(cell, 64, 64, 64, n_pe)
    assert core_cycles(cost) == layers
    assert "further layers have no RTL; they are counted one after another" in cost.unproven


def test_cycles_of_the_head_are_one_pass_a_chunk() -> None:
    on = Accelerator(kind="serial_core", technology="xc7z020", n_pe=16)
    cost = estimate(network(Dense(), 64), on, TaskShape(16, 40))
    assert cost.breakdown["cycles"]["head"][0] == 3 * 64 + 16 + 19


# 16 inputs: hidden, block, n_pe, weight bits, activation bits, then LUT, FF, DSP, RAMB18 of
# Yosys 0.70 synth_xilinx for the 7-series (modes: all columns; 'skip' scans for zero blocks)
FITTED = [
    (64, 8, 2, 8, 8, "", 592, 542, 7, 3),
    (64, 8, 8, 8, 8, "", 651, 675, 13, 3),
    (64, 8, 16, 8, 8, "", 844, 858, 21, 3),
    (64, 8, 32, 8, 8, "", 1210, 1223, 37, 3),
    (64, 1, 16, 8, 8, "", 915, 742, 21, 12),
    (64, 16, 16, 8, 8, "", 918, 986, 21, 2),
    (64, 8, 16, 4, 8, "", 783, 790, 21, 2),
    (64, 8, 16, 12, 12, "", 1082, 1106, 21, 3),
    (128, 8, 16, 8, 8, "", 934, 892, 21, 5),
    (64, 8, 16, 8, 8, "skip", 885, 873, 21, 3),
]
# not used by the fit, with 16 and 32 inputs
HELD_OUT = [
    (96, 8, 24, 8, 8, "x32", 1057, 1047, 29, 4),
    (128, 16, 32, 6, 8, "", 1295, 1331, 37, 3),
    (32, 4, 8, 8, 8, "skip", 785, 625, 13, 1),
]


def _synthesized(row: tuple[int, int, int, int, int, str, int, int, int, int]) -> dict[str, float]:
    hidden, block, n_pe, weight_bits, bits, mode = row[:6]
    structure = BlockCirculant(block_size=block) if block > 1 else Dense()
    net = network(structure, hidden, weight_bits, bits, state_threshold=0.1 if mode == "skip" else 0.0)
    cost = cost_of(net, 32 if mode == "x32" else 16, n_pe)
    figures = {name: float(getattr(cost, name)[0]) for name in ("lut", "ff", "dsp", "bram18")}
    return figures | {"bram18": figures["bram18"] - float(cost.breakdown["bram18"]["head"][0])}


@pytest.mark.parametrize("row", FITTED, ids=str)
def test_fabric_of_the_fitted_syntheses(row: tuple[int, int, int, int, int, str, int, int, int, int]) -> None:
    model, (lut, ff, dsp, bram18) = _synthesized(row), row[6:]
    assert model["dsp"] == dsp
    assert model["ff"] == pytest.approx(ff, rel=0.016)
    assert model["lut"] == pytest.approx(lut, rel=0.08)
    assert model["bram18"] - bram18 in (0, 1)


@pytest.mark.parametrize("row", HELD_OUT, ids=str)
def test_fabric_of_syntheses_outside_the_fit(
    row: tuple[int, int, int, int, int, str, int, int, int, int],
) -> None:
    model, (lut, ff, dsp, bram18) = _synthesized(row), row[6:]
    assert model["dsp"] == dsp
    assert model["ff"] == pytest.approx(ff, rel=0.03)
    assert model["lut"] == pytest.approx(lut, rel=0.15)
    assert model["bram18"] - bram18 in (0, 1)


def test_circulant_blocks_save_weight_reads_but_no_cycles() -> None:
    dense = cost_of(network(Dense(), 64), 16, 16)
    circulant = cost_of(network(BlockCirculant(block_size=8), 64), 16, 16)
    assert core_cycles(dense) == core_cycles(circulant)
    name = "recurrent_kernel_weights"
    ratio = dense.breakdown["energy_j"][name][0] / circulant.breakdown["energy_j"][name][0]
    assert ratio == pytest.approx(8)  # every block RAM bit costs the same
    assert circulant.breakdown["storage_bits"]["recurrent_kernel"][0] * 8 == 64 * 64 * 4 * 8


@pytest.mark.parametrize(("n_pe", "served"), [(1, 1), (4, 4), (8, 8), (16, 8)])
def test_a_stored_word_serves_as_many_rows_as_its_block_and_the_lanes_allow(n_pe: int, served: int) -> None:
    cost = cost_of(network(BlockCirculant(block_size=8), 64), 16, n_pe)
    read_j = technology("xc7z020").operations.read_j(Memory(np.ones(1), np.ones(1)))[0]
    reads = cost.breakdown["energy_j"]["recurrent_kernel_weights"][0] / read_j / 8
    assert reads == pytest.approx(4 * 64 * 64 / served)


def test_macs_are_counted_one_by_one() -> None:
    structure = keep(8, 0.5)
    cost = cost_of(network(structure, 64), 16, 8)
    operations = technology("xc7z020").operations
    macs = 4 * int(structure.layout(64, 64).mask.sum())
    accumulator = 8 + 8 + 7  # 80 columns
    expected = macs * (operations.multiply_j(8, 8) + operations.add_j(accumulator))
    assert cost.breakdown["energy_j"]["recurrent_kernel_macs"][0] == pytest.approx(expected, rel=1e-9, abs=0.0)


def test_kernels_that_differ_have_memories_of_their_own_and_are_unproven() -> None:
    net = network(Dense(), 64, recurrent_kernel=Kernel(structure=BlockCirculant(block_size=8)))
    cost = cost_of(net, 16, 16)
    assert {"input_kernel", "recurrent_kernel"} <= set(cost.breakdown["bram18"])
    assert "two kernels of different structure or word length have no RTL" in cost.unproven


def test_selectors_have_a_memory() -> None:
    assert "selectors" in cost_of(network(keep(8, 0.5), 64), 16, 8).breakdown["bram18"]
