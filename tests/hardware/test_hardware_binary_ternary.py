"""Adding lanes: published rates and ratios, cycles by hand, the recalled silicon, reasons."""

from typing import Any

import numpy as np
import pytest

from codesign.compression import BlockCirculant, CoarseGrain, Dense, Structure
from codesign.design import (
    Accelerator,
    Binary,
    Fixed,
    Float,
    Frozen,
    Kernel,
    Network,
    PerStep,
    PiecewiseLinear,
    PowerOfTwo,
    TaskShape,
    Ternary,
)
from codesign.hardware import Cost, Infeasible, Settings, estimate
from codesign.hardware.accelerators import binary_ternary
from codesign.hardware.accelerators.products import product_j
from codesign.hardware.memory import Memory
from codesign.hardware.technology import technology

CHAR_PTB = TaskShape(50, 50)
WEIGHTS = {"full": Fixed(bits=12), "binary": Binary(), "ternary": Ternary()}
CLOCK_HZ = 400e6
BANDWIDTH = 1e13  # no lane ever waits


def near(expected: float) -> Any:
    """Equal but for rounding; pytest's own absolute tolerance would pass anything of a picojoule."""
    return pytest.approx(expected, rel=1e-9, abs=0.0)


def network(name: str = "binary", structure: Structure | None = None, **fields: Any) -> Network:
    kernel = Kernel(structure=structure or Dense(), weights=WEIGHTS[name])
    values = {"cell": "lstm", "hidden": 1000, "input_kernel": kernel, "recurrent_kernel": kernel}
    values |= {"batch_norm": Frozen(), "activations": Fixed(bits=12), "head_weights": Fixed(bits=12)}
    return Network(**(values | fields))


def run(net: Network, n_pe: int = 100, shape: TaskShape = CHAR_PTB, part: str = "asic65", **options: Any) -> Cost:
    on = Accelerator(kind="binary_ternary", technology=part, n_pe=n_pe, **({"clock_hz": CLOCK_HZ} | options))
    return estimate(net, on, shape)


def product_cycles(cost: Cost) -> float:
    return float(sum(cost.breakdown["cycles"][name][0] for name in ("input_kernel", "recurrent_kernel")))


@pytest.mark.parametrize(("name", "n_pe", "gops"), [("full", 100, 80), ("binary", 100, 80), ("binary", 1000, 800)])
def test_published_rates_are_those_of_all_lanes(name: str, n_pe: int, gops: float) -> None:
    macs = 4 * 1000 * (1000 + 50)
    assert 2 * macs * CLOCK_HZ / product_cycles(run(network(name), n_pe)) / 1e9 == near(gops)


def test_cycles_of_a_step_by_hand() -> None:
    """char-PTB, 100 lanes: 40 chunks of 1050 columns; 25 units of (3 + 9 + 5) products on 5 multipliers follow."""
    parts = {name: part[0] for name, part in run(network("full")).breakdown["cycles"].items()}
    assert parts == {
        "input_kernel": 40 * 50,
        "recurrent_kernel": 40 * 1000,
        "element_wise": 25 * 17 / 5,
        "head": 1000,
        "fill": 2 * 16,
        "dram_wait": 0,
    }
    adding = run(network("binary"), 1000).breakdown["cycles"]
    assert adding["element_wise"][0] == 250 * 17 / 5 and adding["head"][0] == 1000  # 50 rows of 12 bits
    assert run(network("binary")).breakdown["cycles"]["head"][0] == 6 * 1000


def test_tokens_take_one_column() -> None:
    tokens = TaskShape(50, 50, tokens=True)
    assert product_cycles(run(network(), shape=tokens)) == 40 * (1 + 1000)


def test_the_pipeline_that_is_slower_than_the_lanes_shows() -> None:
    """8 units, 32 lanes: one chunk; 8 lanes: 4 chunks of 12 columns, 2 units of 34 / 5 cycles after each."""
    net = network(hidden=8, layers=1)
    sights = [
        run(net, n_pe, TaskShape(cols, 1)).breakdown["cycles"]["element_wise"][0]
        for n_pe, cols in ((32, 4), (8, 4), (8, 1000), (32, 1000))
    ]
    assert sights == [28, 7, 7, 28]
    gru = network(hidden=8, cell="gru", batch_norm=PerStep(steps=3))
    # 24 rows, 3 chunks, (3 + 6 + 3) products of a unit; the state's 8 columns and a token's one hide 7 of them
    cycles = run(gru, 8, TaskShape(50, 1, tokens=True)).breakdown["cycles"]
    assert cycles["element_wise"][0] == 7 and cycles["input_kernel"][0] == 3
    slow = run(network(hidden=8, layers=1), 16, TaskShape(2, 1, tokens=True)).breakdown["cycles"]
    assert slow["element_wise"][0] == 14 + (14 - 9)  # 2 chunks of 9 columns, 4 units after each


def test_constants_of_the_words_take_a_multiplication_unless_normalisation_holds_them() -> None:
    """16 units: 2 kernels of 4 gates take 128 multiplications more, of one chunk 26 cycles on 5 multipliers."""
    for name, more in (("binary", 8), ("ternary", 8), ("full", 0)):
        plain = run(network(name, hidden=16, batch_norm={"kind": "none"}), 64)
        assert plain.breakdown["cycles"]["element_wise"][0] == -(-16 * (3 + 5 + more) // 5)
        assert (plain.breakdown["energy_j"]["scalings"][0] > 0) == bool(more)
        assert run(network(name, hidden=16), 64).breakdown["energy_j"]["scalings"][0] == 0


def test_memory_is_as_many_times_smaller_as_words_are_shorter() -> None:
    bits = {}
    for name in WEIGHTS:
        storage = run(network(name)).breakdown["storage_bits"]
        bits[name] = storage["input_kernel"][0] + storage["recurrent_kernel"][0]
    assert bits["full"] == 4 * 1000 * 1050 * 12
    assert (bits["full"] / bits["binary"], bits["full"] / bits["ternary"]) == (12, 6)


def test_lanes_by_hand() -> None:
    operations = technology("asic65").operations
    lanes = {name: run(network(name)).breakdown["area_mm2"]["lanes"][0] / 100 for name in WEIGHTS}
    # sums of 12 + 12, 12 + 1 and 12 + 2 bits, and 11 for 1050 columns
    assert lanes["full"] == near(operations.multiply_mm2(12, 12) + operations.add_mm2(35))
    assert lanes["binary"] == near(operations.add_mm2(24) + operations.add_mm2(12 * 0.375))
    assert lanes["ternary"] == near(operations.add_mm2(25) + operations.add_mm2(12 * (0.375 + 0.25)))
    # the paper's 10 times as many lanes do not follow from multipliers that are saved
    assert lanes["full"] / lanes["binary"] == pytest.approx(5.93, abs=0.01)
    fabric = {name: run(network(name), part="xc7vx690t").breakdown for name in WEIGHTS}
    assert [fabric[name]["dsp"]["lanes"][0] for name in WEIGHTS] == [100, 0, 0]
    assert fabric["binary"]["lut"]["lanes"][0] == round(0.96 * 100 * 24)


def test_one_fixed_kernel_asks_for_multipliers() -> None:
    mixed = network("binary", recurrent_kernel=Kernel(weights=Fixed(bits=4)))
    assert run(mixed, part="xc7vx690t").breakdown["dsp"]["lanes"][0] == 100
    assert run(mixed).breakdown["cycles"]["head"][0] == 1000
    operations = technology("asic65").operations
    # the output layer's 12-bit words are the longest that the multiplier takes
    assert run(mixed).breakdown["area_mm2"]["lanes"][0] == near(
        100 * (operations.multiply_mm2(12, 12) + operations.add_mm2(12 + 12 + 10))
    )


def datapath_mm2(cost: Cost) -> float:
    area = cost.breakdown["area_mm2"]
    return float(area["lanes"][0] + area["element_wise"][0] + area["buffer_memory"][0])


def datapath_w(cost: Cost) -> float:
    """Mean over the products' cycles; memory outside the chip is not on the chip's bill."""
    energy = cost.breakdown["energy_j"]
    kernels = ("input_kernel", "recurrent_kernel")
    joules = sum(energy[f"{name}_{part}"][0] for name in kernels for part in ("macs", "weights", "activations"))
    return float(joules * CLOCK_HZ / product_cycles(cost))


def test_the_buffer_s_depth_is_that_of_the_recalled_area() -> None:
    assert datapath_mm2(run(network("full"), dram_bits_per_s=BANDWIDTH)) == pytest.approx(2.56, rel=0.005)


@pytest.mark.parametrize(
    ("name", "area_mm2", "power_w"), [("full", 2.56, 0.336), ("binary", 0.24, 0.037), ("ternary", 0.42, 0.061)]
)
def test_recalled_silicon_is_near(name: str, area_mm2: float, power_w: float) -> None:
    """Digits from memory, good to some 10 %: plausibility of a model whose form was chosen with them in view."""
    cost = run(network(name), dram_bits_per_s=BANDWIDTH)
    assert datapath_mm2(cost) == pytest.approx(area_mm2, rel=0.2)
    assert datapath_w(cost) == pytest.approx(power_w, rel=0.2)


def test_ten_times_the_lanes_at_equal_area_come_with_the_buffer() -> None:
    full = datapath_mm2(run(network("full"), 100, dram_bits_per_s=BANDWIDTH))
    sizes = [n for n in range(100, 2000, 10) if datapath_mm2(run(network(), n, dram_bits_per_s=BANDWIDTH)) <= full]
    assert sizes[-1] == pytest.approx(1000, rel=0.15)


def test_memory_outside_the_chip() -> None:
    inside, outside = run(network("full")), run(network("full"), dram_bits_per_s=51.2e9)
    bits = 12 * 4 * 1000 * 1050
    cycles = outside.breakdown["cycles"]
    assert cycles["dram_wait"][0] == near(bits * CLOCK_HZ / 51.2e9 - 42_000)
    assert outside.cycles[0] == near(inside.cycles[0] + cycles["dram_wait"][0])
    assert (
        outside.breakdown["area_mm2"]["recurrent_kernel_memory"][0]
        == 0
        < outside.breakdown["area_mm2"]["buffer_memory"][0]
    )
    assert inside.breakdown["area_mm2"]["buffer_memory"][0] == 0
    energy, sram = outside.breakdown["energy_j"], technology("asic65").operations.sram
    assert energy["input_kernel_dram"][0] + energy["recurrent_kernel_dram"][0] == near(bits * 1300e-12 / 64)
    buffer = Memory(np.array([1200.0]), np.array([binary_ternary.BUFFER_WORDS.value]))
    moved = energy["input_kernel_weights"] + energy["recurrent_kernel_weights"]
    assert moved[0] == near(2 * bits * sram.read_j(buffer)[0])
    assert inside.breakdown["energy_j"]["recurrent_kernel_dram"][0] == 0
    assert all(part[0] == 0 for name, part in run(network()).breakdown["cycles"].items() if name == "dram_wait")


COARSE = CoarseGrain(level1_block=16, level1_keep=0.5, level2_block=8, level2_keep=0.5)


def test_static_selectors() -> None:
    net = network("ternary", COARSE, hidden=64)
    cost = run(net, 16, TaskShape(32, 4))
    # a quarter of the columns; two groups of 8 rows in 16 select activations of their own
    assert product_cycles(cost) == 4 * 64 / 16 * (8 + 16)
    on_8 = run(net, 8, TaskShape(32, 4))
    reads = [c.breakdown["energy_j"]["recurrent_kernel_activations"][0] for c in (cost, on_8)]
    wide = technology("asic65").operations.sram
    price = [wide.read_j(Memory(np.array([12.0 * n]), np.array([32 + 2 * 64.0])))[0] for n in (2, 1)]
    assert reads[0] / price[0] == near(reads[1] / price[1])
    n_bits = cost.breakdown["storage_bits"]["indices"][0]
    memory = Memory(np.array([64.0]), np.array([np.ceil(n_bits / 64)]))
    assert cost.breakdown["energy_j"]["selectors"][0] == near(n_bits * wide.read_j(memory)[0])
    assert "selectors" not in run(network()).breakdown["energy_j"]


def test_a_chunk_has_no_more_groups_than_rows() -> None:
    """8 units of 4 gates are 4 groups of 8 rows, however many lanes there are."""
    net = network("ternary", COARSE.model_copy(update={"level1_block": 8}), hidden=8)
    areas = [run(net, n_pe).breakdown["area_mm2"]["activations_memory"][0] for n_pe in (16, 32, 64)]
    assert areas[0] < areas[1] == areas[2]


def test_memories_and_reads_by_hand() -> None:
    """Two layers of 64 units, 20 inputs and 5 outputs on 100 lanes."""
    shape, operations = TaskShape(20, 5), technology("asic65").operations
    sram = operations.sram
    for name, head_rows, head_bits in (("binary", 5 * 12, 1), ("full", 5, 12)):
        parts = run(network(name, hidden=64, layers=2), shape=shape).breakdown
        activations = Memory(np.array([12.0]), np.array([20 + 2 * 2 * 64.0]))
        head = Memory(np.array([100.0 * head_bits]), np.array([64.0]))
        assert parts["area_mm2"]["activations_memory"] == sram.area_mm2(activations)
        assert parts["area_mm2"]["head_memory"] == sram.area_mm2(head)
        lane_j = product_j("binary" if head_bits == 1 else "fixed", head_bits, 12, operations)
        energy = {part: joules[0] for part, joules in parts["energy_j"].items()}
        assert energy["head_activations"] == near(64 * 12 * sram.read_j(activations)[0])
        mac_j = product_j("ternary" if head_bits == 1 else "fixed", head_bits, 12, operations)
        sums = 12 + (1 + 7 if head_bits == 1 else 12 + 7)  # 128 columns of the second layer
        macs = 4 * 64 * (20 + 64), 4 * 64 * (64 + 64)
        total_j = energy["input_kernel_macs"] + energy["recurrent_kernel_macs"]
        assert total_j == near(sum(macs) * (lane_j + operations.add_j(sums)))
        assert energy["head_macs"] == near(head_rows * 64 * (mac_j + operations.add_j(sums)))


def test_a_token_reads_and_brings_in_one_column() -> None:
    for bandwidth in (0.0, BANDWIDTH):
        whole, token = (
            run(network(), shape=TaskShape(50, 5, tokens=tokens), dram_bits_per_s=bandwidth).breakdown
            for tokens in (False, True)
        )
        for part in ("macs", "weights", "dram"):
            name = f"input_kernel_{part}"
            assert whole["energy_j"][name][0] == near(50 * token["energy_j"][name][0])
        assert token["area_mm2"]["activations_memory"][0] < whole["area_mm2"]["activations_memory"][0]


@pytest.mark.parametrize("name", list(WEIGHTS))
@pytest.mark.parametrize("structure", [Dense(), COARSE], ids=lambda s: s.kind)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_more_lanes_never_take_more_cycles_nor_too_few(name: str, structure: Structure, cell: Any) -> None:
    n_pe = [n for n in range(1, 193) if 192 % n == 0 and (structure.kind == "dense" or n % 8 == 0 or 8 % n == 0)]
    for batch_norm in (Frozen(), {"kind": "none"}):
        net = network(name, structure, cell=cell, hidden=192, layers=2, batch_norm=batch_norm)
        for shape in (TaskShape(10, 7), TaskShape(300, 50), TaskShape(40, 40, tokens=True)):
            on = Accelerator(kind="binary_ternary", technology="xc7vx690t")
            cost = estimate(net, on, shape, settings=Settings.of(n_pe, 1e8))
            assert not (cost.infeasible & Infeasible.PE_FITS_KIND).any()
            assert (np.diff(cost.cycles) <= 0).all()
            density = 1 if structure.kind == "dense" else 1 / 4
            assert (cost.cycles * n_pe >= density * (3 if cell == "gru" else 4) * 192 * (1 + 3 * 192)).all()


@pytest.mark.parametrize("part", ["asic65", "xc7vx690t"])
@pytest.mark.parametrize("name", list(WEIGHTS))
def test_figures_are_positive_and_add_up(name: str, part: str) -> None:
    on = Accelerator(kind="binary_ternary", technology=part)
    sizes = Settings.of([1, 3, 100, 5000, 64, 64], 1e8, dram_bits_per_s=[0, 0, 0, 0, 1e9, 1e12])
    cost = estimate(network(name, hidden=40, layers=3), on, CHAR_PTB, settings=sizes)
    for figure, parts in cost.breakdown.items():
        assert (sum(parts.values()) == getattr(cost, figure)).all()
        assert all((share >= 0).all() for share in parts.values())
    assert (cost.energy_j > 0).all() and (cost.cycles > 0).all()


def test_shorter_words_use_less() -> None:
    costs = [run(network(name)) for name in ("binary", "ternary", "full")]
    for figure in ("energy_j", "area_mm2", "storage_bits"):
        assert (np.diff([getattr(cost, figure)[0] for cost in costs]) > 0).all()


@pytest.mark.parametrize(
    ("bit", "net", "options", "text"),
    [
        (Infeasible.BATCH, network(), {"batch": 8}, "binary_ternary has no streams side by side; use batch = 1"),
        (
            Infeasible.PE_FITS_KIND,
            network("ternary", COARSE),
            {"n_pe": 12},
            "n_pe = 12 does not fit binary_ternary: the rows of a level-2 block share selectors, so it must be a "
            "multiple or a divisor of 8; the next useful is 16",
        ),
        (
            Infeasible.STRUCTURE,
            network("binary", BlockCirculant(block_size=8)),
            {},
            "binary_ternary runs dense, coarse_grain kernels, not block_circulant",
        ),
        (
            Infeasible.WEIGHT_FORMAT,
            network(input_kernel=Kernel(weights=PowerOfTwo())),
            {},
            "binary_ternary multiplies weights of kind 'binary' or 'ternary' or 'fixed', not 'power_of_two'",
        ),
        (
            Infeasible.HEAD_FORMAT,
            network(head_weights=Float()),
            {},
            "binary_ternary has fixed-point weights in the output layer; use head_weights = 'fixed'",
        ),
        (
            Infeasible.CELL,
            network(projection=100, batch_norm={"kind": "none"}),
            {},
            "binary_ternary has no projection; leave it out",
        ),
        (
            Infeasible.CELL,
            network(peephole=True, batch_norm={"kind": "none"}),
            {},
            "binary_ternary has no peepholes; leave it out",
        ),
    ],
)
def test_reasons(bit: Infeasible, net: Network, options: dict[str, Any], text: str) -> None:
    cost = run(net, **options)
    assert Infeasible(int(cost.infeasible[0])) == bit and cost.reasons() == [text]
    assert all(np.isfinite(value) and value >= 0 for value in cost.row().values() if value is not None)


def test_useful_sizes_by_brute_force() -> None:
    on = Accelerator(kind="binary_ternary", technology="asic65")
    n_pe = np.arange(1, 200)
    cost = estimate(network("ternary", COARSE), on, CHAR_PTB, settings=Settings.of(n_pe, 1e8))
    fits = [n for n in range(1, 300) if n % 8 == 0 or 8 % n == 0]
    assert ((cost.infeasible & Infeasible.PE_FITS_KIND) == 0).tolist() == [n in fits for n in n_pe]
    assert cost.facts["useful_n_pe"].tolist() == [next(f for f in fits if f >= n) for n in n_pe]


@pytest.mark.parametrize(
    ("net", "options", "text"),
    [
        (network("full"), {}, "binary_ternary has no RTL"),
        (network(), {}, "the output layer runs on the same lanes"),
        (network("full"), {"dram_bits_per_s": 1e9}, "the buffer's depth was calibrated on one recalled area"),
        (network("ternary", COARSE), {}, "lanes of binary or ternary weights with static selectors"),
        (network("binary", batch_norm={"kind": "none"}), {}, "without batch normalisation each product takes"),
    ],
)
def test_doubts_are_said_where_they_apply(net: Network, options: dict[str, Any], text: str) -> None:
    assert any(doubt.startswith(text) for doubt in run(net, **options).unproven)
    plain = run(network("full")).unproven
    assert "no RTL" in text or not any(doubt.startswith(text) for doubt in plain)


@pytest.mark.parametrize(
    ("name", "value", "figure"),
    [
        ("FILL", 40, "cycles"),
        ("ELEMENT_WISE_MULTIPLIERS", 1, "cycles"),
        ("STATE_BITS", 32, "energy_j"),
        ("SELECTOR_WORD", 16, "energy_j"),
        ("BUFFER_WORDS", 4000.0, "area_mm2"),
    ],
)
def test_every_coefficient_matters(name: str, value: float, figure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network("binary", COARSE, hidden=64, batch_norm={"kind": "none"}, activation_function=PiecewiseLinear())
    before = run(net, 8, dram_bits_per_s=BANDWIDTH).row()
    old = getattr(binary_ternary, name)
    monkeypatch.setattr(binary_ternary, name, value if isinstance(old, int) else type(old)(value, "", "", "calibrated"))
    assert run(net, 8, dram_bits_per_s=BANDWIDTH).row()[figure] != before[figure]
