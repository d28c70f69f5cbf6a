"""Boards of P x P units: the published latency, squares and words counted by brute force, reasons."""

from typing import Any

import numpy as np
import pytest

from codesign.compression import BlockCirculant, CoarseGrain, Dense, Structure
from codesign.design import (
    Accelerator,
    Binary,
    Fixed,
    Frozen,
    Hard,
    Kernel,
    Network,
    PiecewiseLinear,
    PowerOfTwo,
    TaskShape,
)
from codesign.hardware import Cost, Infeasible, Settings, estimate
from codesign.hardware.accelerators import chessboard
from codesign.hardware.accelerators.products import product_j, product_mm2
from codesign.hardware.memory import Memory
from codesign.hardware.technology import technology

SHAPE = TaskShape(512, 1)


def near(expected: float) -> Any:
    """Equal but for rounding; pytest's own absolute tolerance would pass anything of a picojoule."""
    return pytest.approx(expected, rel=1e-9, abs=0.0)


def circulant(block: int) -> Structure:
    return BlockCirculant(block_size=block) if block > 1 else Dense()


def network(structure: Structure | None = None, weights: Any = None, **fields: Any) -> Network:
    kernel = Kernel(structure=structure or Dense(), weights=weights or Fixed(bits=8))
    values = {"cell": "lstm", "hidden": 512, "input_kernel": kernel, "recurrent_kernel": kernel}
    return Network(**(values | {"activation_function": Hard()} | fields))


def run(net: Network, n_pe: int = 2048, shape: TaskShape = SHAPE, part: str = "asic90", **options: Any) -> Cost:
    return estimate(net, Accelerator(kind="chessboard", technology=part, n_pe=n_pe, **options), shape)


def cycles(cost: Cost) -> float:
    """Of the recurrent layers alone, of which the paper speaks."""
    return float(cost.cycles[0] - cost.breakdown["cycles"]["head"][0])


def test_the_published_latency_and_rate() -> None:
    """Wang 2017: 1.71 us and 2.46 TOPS of the network without compression, at a clock that is recalled."""
    cost = run(network(circulant(512)), clock_hz=600e6)
    seconds = cycles(cost) / 600e6
    assert cycles(cost) == 1024 and cost.breakdown["cycles"]["element_wise"][0] == 0
    assert round(seconds * 1e6, 2) == 1.71
    assert round(2 * 4 * 512 * (512 + 512) / seconds / 1e12, 2) == 2.46
    # the node is not believed to reach that clock
    assert Infeasible(int(cost.infeasible[0])) == Infeasible.CLOCK


@pytest.mark.parametrize("block", [1, 4, 8, 16, 32])
def test_squares_and_words_by_brute_force(block: int) -> None:
    """P = 8 on a kernel of 32 x 32: a sweep over a block meets as many words as the board fetches for its squares."""
    side, hidden = 8, 32
    ids = circulant(block).layout(hidden, hidden).ids
    words, length = side * side // min(block, side), max(block, side)
    for i in range(0, hidden, side):
        for j in range(0, hidden, length):
            assert len(np.unique(ids[i : i + side, j : j + length])) == words * length // side
    n_squares = (hidden // side) ** 2
    net = network(circulant(block), hidden=hidden)
    cost = run(net, n_pe=8 * side**2, shape=TaskShape(hidden, 1))
    assert cost.breakdown["cycles"]["products"][0] == n_squares
    n_stored = len(np.unique(ids))
    memory = Memory(np.array([words * 8.0]), np.array([n_stored / words]), copies=4)
    macros = technology("asic90").operations.sram
    assert cost.breakdown["area_mm2"]["recurrent_kernel_memory"] == macros.area_mm2(memory)
    reads = cost.breakdown["energy_j"]["recurrent_kernel_weights"] / macros.read_j(memory)
    assert reads[0] == near(4 * n_squares * words * 8)


@pytest.mark.parametrize(("cell", "boards"), [("lstm", 8), ("gru", 6)])
def test_rows_and_columns_are_padded_and_the_longer_kernel_decides(cell: Any, boards: int) -> None:
    for n_inputs, expected in ((20, 7 * 7), (100, 7 * 15)):
        cost = run(network(cell=cell, hidden=48), n_pe=boards * 49, shape=TaskShape(n_inputs, 1))
        assert cost.breakdown["cycles"]["products"][0] == expected and cost.infeasible[0] == 0


def test_layers_follow_one_another() -> None:
    cost = run(network(hidden=64, layers=3), n_pe=8 * 64, shape=TaskShape(128, 1))
    assert cost.breakdown["cycles"]["products"][0] == 8 * 16 + 2 * 8 * 8


def test_the_output_layer_uses_all_boards() -> None:
    squares = [run(network(), shape=TaskShape(512, n)).breakdown["cycles"]["head"][0] for n in (1, 128, 129, 300)]
    assert squares == [32, 32, 64, 96]
    shifting = run(network(weights=PowerOfTwo(bits=4)), shape=TaskShape(512, 61))
    assert shifting.breakdown["cycles"]["head"][0] == -(-61 * 8 // 128) * 32


def test_element_wise_work_shows_where_a_sweep_is_short() -> None:
    """(3 + 5) products of a unit on 5 multipliers take 2 cycles; 16 more empty the pipeline."""
    hidden = 64
    sights = {
        side: run(network(hidden=hidden), 8 * side**2, TaskShape(8, 1)).breakdown["cycles"]["element_wise"][0]
        for side in (1, 2, 4, 8, 16, 32, 64)
    }
    expected = {
        side: hidden // side * max(0, 2 - hidden // side) + max(0, 2 + 16 - (hidden // side - 1)) for side in sights
    }
    assert sights == expected and sights[1] == sights[2] == 0 and sights[64] == 1 + 18


def test_tokens_read_the_square_of_their_column() -> None:
    tokens = TaskShape(96, 1, tokens=True)
    dense = run(network(hidden=64, layers=1), n_pe=8 * 64, shape=tokens).breakdown
    assert dense["cycles"]["products"][0] == 8 * 8  # the recurrent kernel's
    assert dense["energy_j"]["input_kernel_activations"][0] == 0
    blocks = run(network(circulant(16), hidden=64), n_pe=8 * 16, shape=tokens).breakdown["energy_j"]
    whole = run(network(circulant(16), hidden=64), n_pe=8 * 16, shape=TaskShape(96, 1)).breakdown["energy_j"]
    assert whole["input_kernel_weights"][0] == near(96 / 16 * blocks["input_kernel_weights"][0])


def test_area_of_the_published_design_is_far_below_the_published_one() -> None:
    """30.77 mm2: units and SRAM of 518.5 kB explain a third of it at 8 bits, and 56 % at 16."""
    shares = []
    for bits in (8, 16):
        net = network(circulant(512), Fixed(bits=bits), activations=Fixed(bits=bits), head_weights=Fixed(bits=bits))
        area = run(net).breakdown["area_mm2"]
        sram = technology("asic90").operations.sram.area_mm2(Memory(np.array([128.0]), np.array([518.5e3 * 8 / 128])))
        shares.append((area["units"] + area["element_wise"] + sram)[0] / 30.77)
    assert shares == pytest.approx([0.34, 0.55], abs=0.02)


def test_units_by_hand() -> None:
    operations = technology("asic90").operations
    area = run(network(), n_pe=2048).breakdown["area_mm2"]
    # 8 + 8 bits, 1024 columns
    assert area["units"][0] == near(2048 * (operations.multiply_mm2(8, 8) + operations.add_mm2(26)))
    assert area["element_wise"][0] == near(16 * 5 * (operations.multiply_mm2(8, 16) + operations.add_mm2(16)))
    fabric = run(network(), n_pe=128, part="xc7vx690t").breakdown
    assert fabric["dsp"] == {"units": 128, "element_wise": 5 * 4} and fabric["lut"]["shifters"][0] == 0


def test_the_longest_word_and_every_board_are_paid_for() -> None:
    operations = technology("asic90").operations
    long_head = run(network(head_weights=Fixed(bits=12))).breakdown["area_mm2"]
    # sums of the output layer: 8 + 12 bits, 512 columns
    assert long_head["units"][0] == near(2048 * (operations.multiply_mm2(12, 8) + operations.add_mm2(29)))
    mixed = run(network(input_kernel=Kernel(weights=PowerOfTwo(bits=4)))).breakdown["area_mm2"]
    shifter = product_mm2("power_of_two", 4, 8, operations)
    assert mixed["units"][0] == near(1024 * (operations.multiply_mm2(8, 8) + shifter) + 2048 * operations.add_mm2(26))
    fabric = run(network(circulant(8)), n_pe=128, part="xc7vx690t").breakdown
    n_words = 2 * 4 * 4  # P of each board
    assert fabric["ff"]["base"][0] == 4 * 374 and fabric["lut"]["base"][0] == 4 * 511
    assert fabric["ff"]["lanes"][0] == round(128 * 26 - 0.11 * n_words * 8)


def test_memories_and_reads_by_hand() -> None:
    """Two layers of 64 units, 100 inputs and 5 outputs on boards of 8 x 8."""
    net, shape, sram = network(hidden=64, layers=2), TaskShape(100, 5), technology("asic90").operations.sram
    parts = run(net, 8 * 64, shape).breakdown
    memories = {
        "inputs": Memory(np.array([64.0]), np.array([13.0]), copies=2),
        "activations": Memory(np.array([64.0]), np.array([8.0]), copies=4),
        "head": Memory(np.array([64 * 8.0]), np.array([8.0])),
        "input_kernel": Memory(np.array([64 * 8.0]), np.array([8 * 13 + 8 * 8.0]), copies=4),
    }
    for name, memory in memories.items():
        assert parts["area_mm2"][f"{name}_memory"] == sram.area_mm2(memory)
    read_j = {name: 64 * sram.read_j(memory)[0] for name, memory in memories.items()}
    energy = {name: part[0] for name, part in parts["energy_j"].items()}
    assert energy["input_kernel_activations"] == near(8 * 13 * read_j["inputs"] + 8 * 8 * read_j["activations"])
    assert energy["recurrent_kernel_activations"] == near(2 * 8 * 8 * read_j["activations"])
    assert energy["head_activations"] == near(8 * read_j["activations"])
    operations = technology("asic90").operations
    mac_j = operations.multiply_j(8, 8) + operations.add_j(16 + 8)  # 164 columns of the first layer
    assert energy["input_kernel_macs"] == near(4 * 64 * (100 + 64) * mac_j)
    assert energy["recurrent_kernel_macs"] == near(4 * 64 * (64 + 64) * mac_j)
    token = run(net, 8 * 64, TaskShape(100, 5, tokens=True)).breakdown["area_mm2"]
    assert token["inputs_memory"][0] == 0


def test_a_bit_of_the_output_layer_costs_an_addition_where_nothing_multiplies() -> None:
    operations = technology("asic90").operations
    energy = run(network(weights=PowerOfTwo(bits=4)), shape=TaskShape(512, 5)).breakdown["energy_j"]
    # sums of 8 + 4 bits and 1024 columns
    bit_j = product_j("ternary", 1, 8, operations) + operations.add_j(22)
    assert energy["head_macs"][0] == near(5 * 8 * 512 * bit_j)


def test_figures_of_sizes_that_do_not_fit() -> None:
    """Fewer units than boards take the matrices in turn; what is over the largest square lies idle."""
    net, shape = network(hidden=16), TaskShape(8, 1)
    products = [run(net, n_pe, shape).breakdown["cycles"]["products"][0] for n_pe in (1, 3, 7, 8, 20, 31, 32)]
    assert products == [8 * 256, 3 * 256, 2 * 256, 256, 256, 256, 64]


def test_shifters_replace_multipliers() -> None:
    shift = Kernel(weights=PowerOfTwo(bits=4))
    half, none = network(input_kernel=shift), network(weights=PowerOfTwo(bits=4))
    dsp = [run(net, 128, part="xc7vx690t").breakdown["dsp"]["units"][0] for net in (network(), half, none)]
    assert dsp == [128, 64, 0]
    luts = run(half, 128, part="xc7vx690t").breakdown["lut"]["shifters"][0]
    assert luts == 64 * 2 * (8 + 4)
    energy, area = (
        [run(net).breakdown[figure][part][0] for net in (network(), half, none)]
        for figure, part in (("energy_j", "input_kernel_macs"), ("area_mm2", "units"))
    )
    assert energy[0] > energy[1] >= energy[2] and area[0] > area[1] > area[2]


@pytest.mark.parametrize("weights", [Fixed(bits=8), PowerOfTwo(bits=4)], ids=lambda w: w.kind)
@pytest.mark.parametrize("block", [1, 8])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_more_useful_units_never_take_more_cycles_nor_too_few(weights: Any, block: int, cell: Any) -> None:
    net, boards = network(circulant(block), weights, cell=cell, hidden=100, layers=2), 8 if cell == "lstm" else 6
    for shape in (TaskShape(10, 7), TaskShape(300, 50), TaskShape(40, 40, tokens=True)):
        n_pe = [boards * p * p for p in range(1, 91) if p % block == 0 or block % p == 0]
        on = Accelerator(kind="chessboard", technology="xc7vx690t")
        cost = estimate(net, on, shape, settings=Settings.of(n_pe, 1e8))
        assert not (cost.infeasible & Infeasible.PE_FITS_KIND).any()
        assert (np.diff(cost.cycles) <= 0).all()
        macs = (8 if cell == "lstm" else 6) // 2 * 100 * (100 + 2 * 100)
        assert (cost.cycles * n_pe >= macs).all() and (cost.energy_j > 0).all()


def test_useful_sizes_by_brute_force() -> None:
    for block in (1, 8):
        feasible = [8 * p * p for p in range(1, 91) if p % block == 0 or block % p == 0]
        on = Accelerator(kind="chessboard", technology="asic90")
        n_pe = np.concatenate([np.arange(1, 3000), [65000, 65536]])
        cost = estimate(network(circulant(block)), on, SHAPE, settings=Settings.of(n_pe, 1e8))
        fits = (cost.infeasible & Infeasible.PE_FITS_KIND) == 0
        assert fits.tolist() == [bool(n in feasible) for n in n_pe]
        for n, useful in zip(n_pe, cost.facts["useful_n_pe"], strict=True):
            assert useful == next((f for f in feasible if f >= n), feasible[-1])
    assert Accelerator(n_pe=int(useful)).n_pe == useful


def test_words_of_two_lengths_and_blocks() -> None:
    net = network(input_kernel=Kernel(structure=circulant(8)), recurrent_kernel=Kernel(structure=circulant(16)))
    text = "n_pe = 1152 does not fit chessboard: it must be 8 boards of P * P units, P a multiple or a divisor of "
    assert run(net, 1152).reasons() == [f"{text}block_size = 8 and 16; the next useful is 2048"]


@pytest.mark.parametrize(
    ("bit", "net", "options", "text"),
    [
        (
            Infeasible.PE_FITS_KIND,
            network(),
            {"n_pe": 2000},
            "n_pe = 2000 does not fit chessboard: it must be 8 boards of P * P units; the next useful is 2048",
        ),
        (Infeasible.BATCH, network(), {"batch": 2}, "chessboard has no streams side by side; use batch = 1"),
        (
            Infeasible.OFF_CHIP,
            network(),
            {"dram_bits_per_s": 1e9},
            "chessboard holds all weights on the chip; use dram_bits_per_s = 0",
        ),
        (
            Infeasible.STRUCTURE,
            network(CoarseGrain(level1_block=16, level1_keep=0.5, level2_block=8, level2_keep=0.5)),
            {},
            "chessboard runs dense, block_circulant kernels, not coarse_grain",
        ),
        (
            Infeasible.WEIGHT_FORMAT,
            network(weights=Binary()),
            {},
            "chessboard multiplies weights of kind 'fixed' or 'power_of_two', not 'binary'",
        ),
        (Infeasible.CELL, network(projection=64), {}, "chessboard has no projection; leave it out"),
        (Infeasible.CELL, network(peephole=True), {}, "chessboard has no peepholes; leave it out"),
        (Infeasible.CELL, network(batch_norm=Frozen()), {}, "chessboard has no batch normalisation; leave it out"),
    ],
)
def test_reasons(bit: Infeasible, net: Network, options: dict[str, Any], text: str) -> None:
    cost = run(net, **options)
    assert Infeasible(int(cost.infeasible[0])) == bit and cost.reasons() == [text]
    assert all(np.isfinite(value) and value >= 0 for value in cost.row().values() if value is not None)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (network(), "the chessboard has no RTL"),
        (network(circulant(64)), "circulant blocks smaller than the matrix are our extension"),
        (network(cell="gru"), "the GRU is not in the paper"),
        (network(weights=PowerOfTwo()), "words that are powers of two are priced by cells"),
    ],
)
def test_doubts_are_said_where_they_apply(net: Network, text: str) -> None:
    assert any(doubt.startswith(text) for doubt in run(net).unproven)
    plain = run(network(circulant(512))).unproven
    assert text.startswith("the chessboard") or not any(doubt.startswith(text) for doubt in plain)


@pytest.mark.parametrize(("name", "value"), [("FILL", 40), ("ELEMENT_WISE_MULTIPLIERS", 1)])
def test_every_coefficient_matters(name: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(hidden=64, activation_function=PiecewiseLinear())
    before = run(net, n_pe=8 * 64, shape=TaskShape(64, 1)).row()
    monkeypatch.setattr(chessboard, name, value)
    assert run(net, n_pe=8 * 64, shape=TaskShape(64, 1)).row()["cycles"] != before["cycles"]


def test_longer_powers_of_two_never_use_less() -> None:
    costs = [run(network(weights=PowerOfTwo(bits=bits))) for bits in range(2, 9)]
    for figure in ("energy_j", "area_mm2", "storage_bits"):
        assert (np.diff([getattr(cost, figure)[0] for cost in costs]) > 0).all()
