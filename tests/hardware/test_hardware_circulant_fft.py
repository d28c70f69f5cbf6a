"""C-LSTM and E-RNN: published figures, hand counts, brute force, and every reason of the kind.

Published figures that were only recalled ([M]) are in docs/accelerators/circulant_fft.md and decide nothing here.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.compression import BlockCirculant, CoarseGrain, Dense, Structure
from codesign.design import Accelerator, Fixed, Float, Frozen, Kernel, Network, PiecewiseLinear, TaskShape
from codesign.hardware import Cost, Infeasible, Settings, estimate, technology
from codesign.hardware.accelerators import circulant_fft
from codesign.hardware.accelerators.circulant_fft import (
    BlockSizeBounds,
    block_multiplications,
    block_size_bounds,
    multiplications,
    spectral_bits,
    transform_multiplications,
)
from codesign.hardware.memory import Memory
from codesign.hardware.workload import workload

GOOGLE = TaskShape(153, 1)
"""Input of the published layer; one output, as the publications have no output layer on the chip."""


def kernel(structure: Structure | int, bits: int = 16) -> Kernel:
    structure = BlockCirculant(block_size=structure) if isinstance(structure, int) else structure
    return Kernel(structure=structure, weights=Fixed(bits=bits))


def network(block: Structure | int, bits: int = 16, **fields: Any) -> Network:
    """The published LSTM with blocks of one size, unless `fields` say otherwise."""
    one, word = kernel(block, bits), Fixed(bits=bits)
    base: dict[str, Any] = {"cell": "lstm", "hidden": 1024, "projection": 512, "peephole": True}
    base |= {"input_kernel": one, "recurrent_kernel": one, "projection_kernel": one}
    base |= {"activations": word, "head_weights": word, "activation_function": PiecewiseLinear(segments=32)}
    return Network(**(base | fields))


GRU: dict[str, Any] = {"cell": "gru", "projection": 0, "peephole": False}
PLAIN: dict[str, Any] = {"projection": 0, "peephole": False}


def run(
    net: Network,
    n_pe: int,
    clock_hz: float = 200e6,
    part: str = "xcku060",
    shape: TaskShape = GOOGLE,
    **options: Any,
) -> Cost:
    on = Accelerator(kind="circulant_fft", technology=part, n_pe=n_pe, clock_hz=clock_hz, **options)
    return estimate(net, on, shape)


def parts(cost: Cost, figure: str) -> dict[str, float]:
    return {name: float(part[0]) for name, part in cost.breakdown[figure].items()}


@pytest.mark.parametrize(
    ("block", "n_pe", "clock_hz", "published_fps", "published_us", "interval", "pes"),
    [
        # [M+]; the products a cycle were computed back from the frames, so that frames are a fit
        (8, 50, 200e6, 195_313, 15.4, 1024, (42, 8)),
        (8, 50, 184e6, 179_687, 16.7, 1024, (42, 8)),
        # 12,800 block products in 200 MHz / 371,095 are 23.75 a cycle; whole PEs are 20 + 4
        (16, 24, 200e6, 371_095, 8.1, 538, (20, 4)),
    ],
)
def test_c_lstm(
    block: int,
    n_pe: int,
    clock_hz: float,
    published_fps: float,
    published_us: float,
    interval: int,
    pes: tuple[int, int],
) -> None:
    cost = run(network(block), n_pe, clock_hz)
    assert parts(cost, "cycles") == {"gates": interval, "element_wise": interval, "projection": interval}
    assert cost.throughput[0] == pytest.approx(clock_hz / interval) == pytest.approx(published_fps, rel=2e-3)
    # a prediction: three stages, each as long as the interval
    assert cost.latency_s[0] * 1e6 == pytest.approx(published_us, rel=0.005)
    dsp = parts(cost, "dsp")
    assert (dsp["gates"], dsp["projection"]) == tuple(n * block_multiplications(block) for n in pes)
    assert cost.feasible[0]


@pytest.mark.parametrize(("block", "ratio"), [(8, 7.93), (16, 15.86)])
def test_compression_of_the_published_layer(block: int, ratio: float) -> None:
    def bits(structure: Structure | int) -> int:
        storage = workload(network(structure), GOOGLE).storage
        return storage["input_kernel"] + storage["recurrent_kernel"] + storage["projection"]

    assert bits(Dense()) == 16 * 3_248_128
    assert bits(Dense()) / bits(block) == pytest.approx(ratio, abs=0.005)


@pytest.mark.parametrize(
    ("block", "n_pe", "interval"),
    # E-RNN's GRU: r and z on 2/3 of the PEs; 2 * 128 * 148 / 54 and 2 * 64 * 74 / 22, rounded up
    [(8, 81, 702), (16, 33, 431)],
)
def test_the_gru_of_e_rnn(block: int, n_pe: int, interval: int) -> None:
    cost = run(network(block, 12, **GRU), n_pe, part="xc7vx690t")
    assert parts(cost, "cycles") == {"gates": interval, "candidate": interval, "element_wise": interval}
    assert cost.throughput[0] * cost.latency_s[0] == pytest.approx(3)


def test_the_lstm_of_e_rnn_and_one_without_projection() -> None:
    assert run(network(8, 12), 62).cycles[0] == 3 * 828  # 43,008 / 52, rounded up
    assert run(network(8, 12), 7).cycles[0] == 3 * 8192  # 6 + 1; 43,008 / 5 would be longer
    plain = run(network(8, **PLAIN), 50)
    assert parts(plain, "cycles") == {"gates": 1516, "element_wise": 1516}  # 4 * 128 * (20 + 128) / 50, rounded up
    assert plain.throughput[0] * plain.latency_s[0] == pytest.approx(2)


def test_the_open_rtl_of_koios() -> None:
    """Row 20: a PE for each gate and one for the projection; its input buffer gives a block every second clock."""
    cost = run(network(16), 5, shape=TaskShape(160, 1))
    assert parts(cost, "dsp")["gates"] == 4 * 30 and parts(cost, "dsp")["projection"] == 30
    # simulated: 2,688 block reads between clock 5 and 5379
    assert parts(cost, "cycles")["gates"] == 64 * 42 == 2688 and 2 * 2688 == 5376
    pipeline = circulant_fft._pipeline(workload(network(16), TaskShape(160, 1)), np.array([5]))
    gates, projection = (circulant_fft._weights(pipeline, stage) for stage in ("gates", "projection"))
    # for each gate 2,688 words of 9 complex numbers, for the projection 2,048
    assert (gates.depth[0], gates.width[0]) == (2688, 4 * 2 * 9 * 16)
    assert (projection.depth[0], projection.width[0]) == (2048, 2 * 9 * 16)


@pytest.mark.parametrize(
    ("block", "products", "transform"), [(2, 2, 2), (4, 6, 8), (8, 14, 24), (16, 30, 64), (64, 126, 384)]
)
def test_operations_by_hand(block: int, products: int, transform: int) -> None:
    assert block_multiplications(block) == products and transform_multiplications(block) == transform
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=block))
    n_real = int((spectrum.imag == 0).sum())
    assert products == 4 * (len(spectrum) - n_real) + n_real


@pytest.mark.parametrize(
    ("block", "relative"), [(2, 0.502), (4, 0.379), (8, 0.225), (16, 0.125), (32, 0.070), (64, 0.044)]
)
def test_multiplications_of_the_published_layer(block: int, relative: float) -> None:
    dense = 4096 * (160 + 512) + 512 * 1024
    assert multiplications(workload(network(block), TaskShape(160, 1))) / dense == pytest.approx(relative, abs=6e-4)


def test_kernels_of_different_blocks_are_transformed_apart() -> None:
    same = workload(network(8, **PLAIN), TaskShape(160, 1))
    # 20 + 128 blocks in, 4 * 128 out
    assert multiplications(same) == 4 * 128 * 148 * 14 + (148 + 512) * 24
    mixed = workload(network(8, input_kernel=kernel(16), **PLAIN), TaskShape(160, 1))
    x = 4 * 64 * 10 * 30 + (10 + 4 * 64) * 64
    assert multiplications(mixed) == x + 4 * 128 * 128 * 14 + (128 + 512) * 24
    # the GRU's r scales the recurrent sum of the candidate alone
    gru = workload(network(8, **GRU), TaskShape(160, 1))
    assert multiplications(gru) == 3 * 128 * 148 * 14 + (148 + 2 * 128 + 2 * 128) * 24


def test_a_token_is_one_block() -> None:
    shape = TaskShape(5000, 1, tokens=True)
    tokens = workload(network(8, **PLAIN), shape)
    assert multiplications(tokens) == 4 * 128 * 129 * 14 + (129 + 512) * 24
    assert spectral_bits(tokens) == 4 * 128 * (625 + 128) * 10 * 16
    assert run(network(8, **PLAIN), 64, shape=shape).cycles[0] == 2 * 4 * 128 * 129 / 64


@pytest.mark.parametrize(("block", "words"), [(8, 10), (16, 18)])
def test_weight_memories_hold_spectra_and_storage_does_not(block: int, words: int) -> None:
    one = workload(network(block), GOOGLE)
    stored = one.storage["input_kernel"] + one.storage["recurrent_kernel"] + one.storage["projection"]
    assert spectral_bits(one) / stored == words / block
    cost = run(network(block), 50)
    assert cost.storage_bits[0] == one.storage_bits
    pipeline = circulant_fft._pipeline(one, np.array([50]))
    memories = [circulant_fft._weights(pipeline, stage) for stage in pipeline.stages]
    # whole words only
    assert 1 <= sum(memory.bits[0] for memory in memories) / spectral_bits(one) < 1.04


def work_of(net: Network, shape: TaskShape = GOOGLE) -> list[list[int]]:
    stages = circulant_fft._stages(workload(net, shape)).values()
    return [[sum(task.n_products for task in tasks) for tasks in layers] for layers in stages]


@settings(max_examples=40, deadline=None)
@given(
    block=st.sampled_from([2, 8, 64]),
    cell=st.sampled_from(["lstm", "gru"]),
    inputs=st.integers(1, 2000),
    n_pe=st.integers(2, 120),
)
def test_no_split_of_the_pes_is_shorter(block: int, cell: str, inputs: int, n_pe: int) -> None:
    net = network(block, hidden=256, **(GRU if cell == "gru" else {"projection": 96}))
    (first,), (second,) = work_of(net, TaskShape(inputs, 1))
    best = min(max(-(-first // n), -(-second // (n_pe - n))) for n in range(1, n_pe))
    assert run(net, n_pe, shape=TaskShape(inputs, 1)).cycles[0] == 3 * best


@pytest.mark.parametrize("fields", [{}, GRU, PLAIN], ids=["projection", "gru", "plain"])
def test_layers_add_up_and_more_pes_never_lengthen_a_step(fields: dict[str, Any]) -> None:
    net = network(16, **(fields | {"layers": 3}))
    on = Accelerator(kind="circulant_fft", technology="asic65")
    cycles = estimate(net, on, GOOGLE, settings=Settings.of(np.arange(2, 400), 1e8)).cycles
    assert (np.diff(cycles) <= 0).all()
    work = work_of(net)
    if len(work) == 1:
        assert cycles[0] == 2 * sum(-(-n // 2) for n in work[0])
    else:
        assert cycles[0] == 3 * sum(max(pair) for pair in zip(*work, strict=True))  # a PE each


def test_the_longest_stage_of_each_layer_by_hand() -> None:
    # the first layer waits for its projection, 8,192 / 7; two more for their gates, 4 * 128 * 128 / 43
    assert run(network(8, layers=3), 50).cycles[0] == 3 * (1171 + 2 * 1525)


@settings(max_examples=40, deadline=None)
@given(n_pe=st.integers(2, 4000), layers=st.integers(1, 3), outputs=st.integers(1, 5000))
def test_no_other_unit_is_the_longest_and_none_is_idle(n_pe: int, layers: int, outputs: int) -> None:
    one = workload(network(8, layers=layers), TaskShape(153, outputs))
    pipeline = circulant_fft._pipeline(one, np.array([n_pe]))
    interval = pipeline.interval[0]
    for work, units in ((1024 * layers, pipeline.n_units[0]), (one.head.macs, pipeline.head_lanes[0])):
        assert work / units <= interval and (units == 1 or work / (units - 1) > interval)
    # gates: 20 + 64 blocks in (84 for other layers: 64 + 64), 512 out; projection: 128 in, 64 out
    counts = {"gates": (84 + (layers - 1) * 128, 512 * layers), "projection": (128 * layers, 64 * layers)}
    for stage, both in counts.items():
        assert pipeline.n_transforms(stage)[0] == sum(-(-count // interval) for count in both)


def test_board_power_of_c_lstm_is_met_by_what_it_was_calibrated_on() -> None:
    """22 W [M+] set `board_factor`: block products and reads of k + 2 words. The kind adds the rest."""
    cost = run(network(8), 50, 184e6, part="xc7vx690t")
    energy = parts(cost, "energy_j")
    kernels = ("input_kernel", "recurrent_kernel", "projection")
    macs, weights = (sum(energy[f"{name}_{what}"] for name in kernels) for what in ("macs", "weights"))
    per_second = cost.throughput[0]
    assert (macs + weights) * per_second == pytest.approx(22.0, rel=1e-3)
    rest = cost.energy_j[0] - macs - weights
    assert 0.05 < rest / cost.energy_j[0] < 0.07


def test_dsp_and_bram_by_hand() -> None:
    cost = run(network(8), 50)
    # a forward and an inverse unit of each product stage; 3 + 3 multipliers and 5 slopes a unit
    assert parts(cost, "dsp") == {
        "gates": 42 * 14,
        "projection": 8 * 14,
        "transforms": 4 * 24,
        "element_wise": 11,
        "head": 1,
    }
    bram = parts(cost, "bram18")
    assert bram["gates_weights"] == -(-42 * 160 // 18)  # 1,024 words of 42 PEs, 10 words of 16 bits each
    assert bram["projection_weights"] == 8 * 160 // 18 + 1
    # 84 blocks of 10 words of 16 bits for each of three streams; two banks of 1,024 times four sums
    assert bram["activations"] == -(-160 // 36) and bram["gate_sums"] == 8
    lut = parts(cost, "lut")
    assert lut["gates"] == round(0.96 * 42 * 14 * 32) and lut["transforms"] == round(0.96 * 96 * 1.5 * 16)
    assert lut["element_wise"] == 511 + 19 * 8 and lut["head"] == round(0.96 * (16 + 16 + 10))


def test_memories_by_hand() -> None:
    one = workload(network(8), TaskShape(153, 5))
    memories = circulant_fft._memories(one, circulant_fft._pipeline(one, np.array([60])))
    assert memories["gates_weights"].depth[0] == 861  # 43,008 / 50, rounded up
    # a bank for each of three streams: 20 + 64 blocks, 128 blocks, 1,024 cells
    assert (memories["activations"].depth[0], memories["projection_inputs"].depth[0]) == (3 * 84, 3 * 128)
    assert memories["states"].depth[0] == 3 * 1024
    # a lane more than there are outputs needs no weights of its own
    wide = circulant_fft._memories(one, circulant_fft._pipeline(one, np.array([4000])))
    assert (wide["head"].width[0], wide["head"].depth[0]) == (5 * 16, 512)
    gru = workload(network(8, **GRU), GOOGLE)
    pipeline = circulant_fft._pipeline(gru, np.array([3]))
    depths = [circulant_fft._weights(pipeline, stage).depth[0] for stage in ("gates", "candidate")]
    assert depths == [128 * 148, 128 * 148]  # two gates on two PEs, one on one


def test_energy_by_hand() -> None:
    """A token of 100 in blocks of 4, 50 units in blocks of 8, 40 PEs: 4 * 13 and 4 * 7 block rows."""
    fields: dict[str, Any] = {"input_kernel": kernel(4, 10), "recurrent_kernel": kernel(8, 12), "hidden": 50}
    net = network(8, **(PLAIN | fields | {"activations": Fixed(bits=9)}))
    energy = parts(run(net, 40, shape=TaskShape(100, 3, tokens=True)), "energy_j")
    prices = technology("xcku060").operations
    read = float(prices.read_j(Memory(np.ones(1), np.ones(1)))[0])
    word, inputs = 10 * 12, 10 * 9  # 8 / 2 + 1 complex numbers of the wider kernel; of the wider input

    def products(n: int, bits: int) -> float:
        return n * (prices.multiply_j(bits, 9) + prices.add_j(bits + 9))

    transforms = (1 + 4 * 13) * 8 + (7 + 4 * 7) * 24
    by_hand = {
        "input_kernel_macs": products(4 * 13 * 1 * 6, 10),
        "recurrent_kernel_macs": products(4 * 7 * 7 * 14, 12),
        "input_kernel_weights": 4 * 13 * word * read,
        "recurrent_kernel_weights": 4 * 7 * 7 * word * read,
        "input_kernel_activations": 4 * 13 / 40 * inputs * read,
        "recurrent_kernel_activations": 7 * inputs * read,
        "transforms": 8 * inputs * read + transforms * (prices.multiply_j(9, 9) + 1.5 * prices.add_j(9)),
        "gate_sums": 2 * 4 * 50 * 9 * read,
    }
    for name, value in by_hand.items():
        assert energy[name] == pytest.approx(value), name


def test_area_by_hand() -> None:
    area = parts(run(network(8, 12), 50, part="asic65"), "area_mm2")
    prices = technology("asic65").operations
    multiplier, adder = prices.multiply_mm2(12, 12), prices.add_mm2(24)
    assert area["gates"] == pytest.approx(42 * 14 * (multiplier + adder))
    assert area["projection"] == pytest.approx(8 * 14 * (multiplier + adder))
    assert area["transforms"] == pytest.approx(4 * 24 * (multiplier + 1.5 * prices.add_mm2(12)))
    assert area["element_wise"] == pytest.approx(11 * (prices.multiply_mm2(12, 16) + prices.add_mm2(16)))
    assert area["head"] == pytest.approx(multiplier + prices.add_mm2(12 + 12 + 10))


def test_activation_tables_are_as_many_as_look_ups_a_cycle() -> None:
    net = network(8, activation_function={"kind": "exact"}, activations=Fixed(bits=12))
    for n_pe, units in ((50, 1), (200, 4)):
        # 4,096 entries of 12 bits: 3 RAMB18 a table, 5 look-ups a cell
        assert parts(run(net, n_pe), "bram18")["function_table"] == 3 * 5 * units


@pytest.mark.parametrize(
    ("net", "part", "bounds"),
    [
        # spectra of the dense size at k = 2, 6 words for 16 weights at k = 4
        (network(8, 12), "xc7vx690t", BlockSizeBounds(2, 64)),
        (network(8, 16), "xcku060", BlockSizeBounds(4, 64)),
        (network(8, 16), "xc7z020", BlockSizeBounds(16, 64)),
        (network(Dense(), 16), "asic65", BlockSizeBounds(2, 64)),
        (network(8, hidden=64, **PLAIN), "xc7z020", BlockSizeBounds(2, 32)),
        # 4 * 4096 * (153 + 5 * 4096) weights of 16 bits in 280 * 18 Kibit: more than 1,024 a block
        (network(8, hidden=4096, layers=3, **PLAIN), "xc7z020", BlockSizeBounds(2048, 64)),
    ],
)
def test_block_size_bounds(net: Network, part: str, bounds: BlockSizeBounds) -> None:
    assert block_size_bounds(workload(net, GOOGLE), technology(part)) == bounds


def multiplied(rows: int, cols: int, k: int) -> int:
    """A product of p x q blocks: 2k - 2 multiplications each, and p + q transforms of k log2(k)."""
    p, q = -(-rows // k), -(-cols // k)
    return p * q * (2 * k - 2) + (p + q) * k * int(np.log2(k)) if k > 1 else rows * cols


@pytest.mark.parametrize("least", [0.001, 0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("hidden", [64, 256, 2048])
def test_doubling_pays_up_to_the_largest_block(hidden: int, least: float) -> None:
    one = workload(network(8, hidden=hidden, **PLAIN), TaskShape(hidden, 1))
    work = {k: multiplied(4 * hidden, 2 * hidden, k) for k in (2**i for i in range(12)) if k <= hidden}
    pays = [k for k in work if k > 1 and work[k // 2] - work[k] >= least * work[1]]
    assert block_size_bounds(one, technology("asic65"), least).largest == max(pays)


def test_block_size_bounds_follow_the_part_and_the_saving() -> None:
    one = workload(network(8), GOOGLE)
    for part in ("xc7vx690t", "xcku060", "xc7z020", "xczu9eg"):
        limit = technology(part).bram18 * 18 * 1024  # type: ignore[union-attr]
        smallest = block_size_bounds(one, technology(part)).smallest
        assert smallest is not None and spectral_bits(workload(network(smallest), GOOGLE)) <= limit
        assert smallest == 2 or spectral_bits(workload(network(smallest // 2), GOOGLE)) > limit
    savings = [block_size_bounds(one, technology("asic65"), least).largest for least in (0.01, 0.02, 0.05, 0.1, 0.9)]
    assert savings == [128, 64, 32, 16, 2]
    huge = workload(network(8, hidden=4096, layers=3, **PLAIN, recurrent_kernel=kernel(8)), TaskShape(10**7, 1))
    assert block_size_bounds(huge, technology("xc7z020")).smallest is None


REASONS: list[tuple[Infeasible, Network, dict[str, Any], str]] = [
    (Infeasible.STRUCTURE, network(Dense()), {}, "circulant_fft runs block_circulant kernels, not dense"),
    (
        Infeasible.STRUCTURE,
        network(
            8, projection_kernel=kernel(CoarseGrain(level1_block=8, level1_keep=0.5, level2_block=8, level2_keep=1))
        ),
        {},
        "circulant_fft runs block_circulant kernels, not coarse_grain",
    ),
    (
        Infeasible.SMALL_BLOCK,
        network(8, projection_kernel=kernel(1)),
        {},
        "circulant_fft transforms blocks; use block_size = 2 or more in every kernel",
    ),
    (
        Infeasible.PE_FITS_KIND,
        network(8),
        {"n_pe": 1},
        "n_pe = 1 does not fit circulant_fft: each of the stages gates and projection needs one at least; "
        "the next useful is 2",
    ),
    (Infeasible.BATCH, network(8), {"batch": 2}, "use batch = 1"),
    (Infeasible.OFF_CHIP, network(8), {"dram_bits_per_s": 1e9}, "circulant_fft holds all weights on the chip"),
    (
        Infeasible.CELL,
        network(8, batch_norm=Frozen(), **PLAIN),
        {},
        "circulant_fft has no batch normalisation; leave it out",
    ),
    (
        Infeasible.WEIGHT_FORMAT,
        network(8, input_kernel=Kernel(structure=BlockCirculant(block_size=8), weights=Float())),
        {},
        "circulant_fft multiplies weights of kind 'fixed', not 'float'",
    ),
    (Infeasible.ACTIVATION_FORMAT, network(8, activations=Float()), {}, "circulant_fft holds fixed-point states only"),
    (Infeasible.NETWORK, network(8, **(GRU | {"projection": 512})), {}, "projection and peephole belong to the LSTM"),
]


@pytest.mark.parametrize(
    ("bit", "net", "options", "text"), REASONS, ids=lambda v: v.name if isinstance(v, Infeasible) else ""
)
def test_reasons(bit: Infeasible, net: Network, options: dict[str, Any], text: str) -> None:
    base: dict[str, Any] = {"n_pe": 50, "part": "xc7vx690t"}
    cost = run(net, **(base | options))
    assert bit in Infeasible(int(cost.infeasible[0]))
    assert any(text in reason for reason in cost.reasons())
    assert all(np.isfinite(getattr(cost, name)[0]) for name in ("cycles", "energy_j", "dsp", "bram18", "power_w"))


def test_a_useful_size_is_feasible() -> None:
    for fields, least in (({}, 2), (GRU, 2), (PLAIN, 1)):
        useful = int(run(network(8, **fields), 1).facts["useful_n_pe"][0])
        assert useful == least
        reasons = Infeasible(int(run(network(8, **fields), useful).infeasible[0]))
        assert Infeasible.PE_FITS_KIND not in reasons


@pytest.mark.parametrize(
    ("name", "value", "figures"),
    [
        ("COMPLEX_MULTIPLICATIONS", 3, ("dsp", "energy_j", "area_mm2")),
        ("BUTTERFLY_ADDITIONS", 2.0, ("lut", "ff", "energy_j", "area_mm2")),
        ("GATE_SUMS", 8, ("energy_j", "bram18", "area_mm2")),
        ("STATE_BITS", 32, ("area_mm2",)),
    ],
)
def test_each_coefficient_matters(name: str, value: float, figures: tuple[str, ...], monkeypatch: Any) -> None:
    def both() -> dict[str, float]:
        fpga, asic = run(network(8), 50).row(), run(network(8), 50, part="asic65").row()
        return {figure: float(fpga[figure] or asic[figure] or 0) for figure in figures}

    before = both()
    monkeypatch.setattr(circulant_fft, name, value)
    after = both()
    assert all(after[figure] != before[figure] for figure in figures)


def test_doubts_are_those_of_the_design() -> None:
    def doubts(net: Network, part: str = "xcku060", shape: TaskShape = GOOGLE) -> str:
        return " ".join(run(net, 50, part=part, shape=shape).unproven)

    assert "no RTL" in doubts(network(8)) and "two stages" not in doubts(network(8))
    assert "two stages" in doubts(network(8, **PLAIN)) and "E-RNN's three stages" in doubts(network(8, **GRU))
    assert "further layers" in doubts(network(8, layers=2)) and "further layers" not in doubts(network(8))
    assert "a token" in doubts(network(8), shape=TaskShape(50, 50, tokens=True))
    assert "LUT and FF" in doubts(network(8)) and "LUT and FF" not in doubts(network(8), part="asic65")
