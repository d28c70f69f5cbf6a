"""State skipping: the published peak rates, steps counted one by one, and what each assumption does."""

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pytest

from codesign.compression import BlockCirculant
from codesign.design import Accelerator, Activity, Fixed, Frozen, Kernel, Network, PiecewiseLinear, TaskShape, Ternary
from codesign.hardware import Cost, Infeasible, Settings, estimate, workload
from codesign.hardware.accelerators import sparse_state
from codesign.hardware.technology import DRAM_J, technology

BANDWIDTH = 51.2e9
CHARACTERS = TaskShape(50, 50, tokens=True)


def network(hidden: int, threshold: float = 0.0, **fields: Any) -> Network:
    values: dict[str, Any] = {"cell": "lstm", "activation_function": PiecewiseLinear(), "state_threshold": threshold}
    return Network(hidden=hidden, **(values | fields))


def chip(net: Network, shape: TaskShape, batch: int = 8, activity: Activity | None = None, **accelerator: Any) -> Cost:
    """On the published array: 192 units at 200 MHz, 51.2 Gbit/s."""
    fields = {"n_pe": 192, "clock_hz": 200e6, "dram_bits_per_s": BANDWIDTH, "technology": "asic65"} | accelerator
    return estimate(net, Accelerator(kind="sparse_state", batch=batch, **fields), shape, activity)


def always(kept: int, hidden: int, batch: int = 8) -> Activity:
    """Every step keeps so many columns."""
    return ({batch: {1: tuple(float(n == kept) for n in range(hidden + 1))}},)


def cycles(cost: Cost, *names: str, i: int = 0) -> float:
    return float(sum(cost.breakdown["cycles"][name][i] for name in names))


def energy_pj(cost: Cost) -> dict[str, float]:
    """Joules are so few that a comparison would call all of them equal."""
    return {name: 1e12 * float(part[0]) for name, part in cost.breakdown["energy_j"].items()}


KERNELS = ("input_kernel", "recurrent_kernel", "dram_wait")


@pytest.mark.parametrize(("batch", "gops"), [(1, 9.6), (8, 76.8), (16, 76.8)])
def test_the_published_peak_rate(batch: int, gops: float) -> None:
    """M+, an identity: 2 * 192 * 200 MHz, and 24 weights a cycle where one stream cannot use more."""
    cost = chip(network(300), TaskShape(300, 10), batch)
    operations = 2 * batch * 4 * 300 * (300 + 300)
    assert operations / (cycles(cost, *KERNELS) / 200e6) == pytest.approx(gops * 1e9)
    assert cost.feasible[0]


def test_the_published_speed_up_needs_81_percent_of_the_columns_gone() -> None:
    """V, a fit: 5.2 = 1 / (1 - s_8) gives s_8 = 0.808; our tail, head and token column are not sped up."""
    net, skips = network(1000), network(1000, 0.1)
    full, skipped = chip(net, CHARACTERS), chip(skips, CHARACTERS, activity=always(192, 1000))
    of_kernel = cycles(full, "recurrent_kernel") / cycles(skipped, "recurrent_kernel")
    assert of_kernel == pytest.approx(5.2, rel=0.002)
    assert full.cycles[0] / skipped.cycles[0] == pytest.approx(4.79, abs=0.01)


def test_one_stream_gains_all_of_its_sparsity_where_bandwidth_bounds() -> None:
    net, skips = network(1000), network(1000, 0.1)
    full, skipped = chip(net, CHARACTERS, 1), chip(skips, CHARACTERS, 1, always(30, 1000, 1))
    # one column for the token on either side
    assert cycles(full, *KERNELS) / cycles(skipped, *KERNELS) == pytest.approx(1001 / 31)


def step_by_hand(kept: int, batch: int, n_pe: int, x_bits: int, h_bits: int, bandwidth: float) -> float:
    """One LSTM layer of 12 units on 20 inputs, at 100 MHz."""
    x_words, h_words = 4 * 12 * 20, 4 * 12 * kept
    work = ceil(batch * x_words / n_pe) + ceil(batch * h_words / n_pe)
    fetch = (x_words * x_bits + h_words * h_bits) / (0.75 * bandwidth / 100e6) if bandwidth else 0.0
    return max(work, fetch)


@pytest.mark.parametrize("bandwidth", [0.0, 1e9, 21e9, 51.2e9])
@pytest.mark.parametrize(("batch", "n_pe"), [(1, 7), (6, 192), (8, 192), (16, 5)])
def test_the_mean_is_that_of_the_steps_own_cycles(bandwidth: float, batch: int, n_pe: int) -> None:
    shares = tuple(np.random.default_rng(0).dirichlet(np.ones(13)))
    net = network(12, 0.1, input_kernel=Kernel(weights=Fixed(bits=4)))
    cost = chip(
        net, TaskShape(20, 3), batch, ({16: {1: shares}},), n_pe=n_pe, clock_hz=100e6, dram_bits_per_s=bandwidth
    )
    mean = sum(share * step_by_hand(kept, batch, n_pe, 4, 8, bandwidth) for kept, share in enumerate(shares))
    assert cycles(cost, *KERNELS) == pytest.approx(mean)


def test_the_mean_of_the_larger_is_not_the_larger_of_the_means() -> None:
    """Short words of x and six streams: a step of no columns waits for the units, one of all for the memory."""
    net = network(12, 0.1, input_kernel=Kernel(weights=Fixed(bits=4)))
    halves = ({8: {1: (0.5,) + 11 * (0.0,) + (0.5,)}},)
    cost = chip(net, TaskShape(20, 3), 6, halves, clock_hz=100e6, dram_bits_per_s=21e9)
    fetch = (4 * 12 * 20 * 4 + 4 * 12 * 12 * 8) / (0.75 * 210)
    assert cycles(cost, *KERNELS) == pytest.approx((30 + fetch) / 2) and fetch > 48


def test_tail_and_head_by_hand() -> None:
    cost = chip(network(12, layers=2), TaskShape(20, 3), batch=5, n_pe=8)
    assert cycles(cost, "element_wise") == 2 * ceil(5 * 3 * 12 / 8)
    assert cycles(cost, "head") == ceil(5 * 3 * 12 / 8)
    assert cycles(cost, "fill") == 3 * 16
    assert cost.throughput[0] == 5 / cost.latency_s[0]


def test_a_gru_streams_three_gates() -> None:
    cost = chip(network(12, cell="gru"), TaskShape(20, 3), batch=1, n_pe=1, dram_bits_per_s=0.0)
    assert cycles(cost, *KERNELS) == 3 * 12 * (20 + 12)
    assert any("GRU" in text for text in cost.unproven)


@pytest.mark.parametrize(("batch", "fetched"), [(1, 1), (3, 3), (16, 5)])
def test_every_stream_looks_up_a_column_of_its_own(batch: int, fetched: int) -> None:
    """The published formula has no term for them; there are no more of them than tokens."""
    cost = chip(network(100), TaskShape(5, 3, tokens=True), batch, n_pe=4096)
    words = 4 * 100 * (fetched + 100)
    assert cycles(cost, *KERNELS) == pytest.approx(words / 24)
    read = 4 * 100 * fetched * 8 * 1e12 * DRAM_J.value
    assert energy_pj(cost)["input_kernel_dram"] * batch == pytest.approx(read)


HALF, WORST = always(50, 100, 8), always(100, 100, 8)


@pytest.mark.parametrize(
    ("batch", "activity", "kept", "text"),
    [
        (8, HALF, 50, None),
        (3, HALF, 50, "activity is not measured for batch = 3; that of 8 streams bounds it"),
        (9, HALF, 100, "no activity is measured for batch = 9 or more; no state is taken as zero"),
        (8, ({8: {2: (0.0,) * 50 + (1.0,)}},), 100, "no activity is measured for batch = 8 or more"),
        (8, None, 100, "no activity is measured for batch = 8 or more"),
        (9, ({16: HALF[0][8], 32: WORST[0][8]},), 50, "that of 16 streams bounds it"),
    ],
)
def test_a_batch_takes_the_next_larger_measurement_or_the_worst_case(
    batch: int, activity: Activity | None, kept: int, text: str | None
) -> None:
    cost = chip(network(100, 0.1), TaskShape(20, 3), batch, activity, n_pe=1, dram_bits_per_s=0.0)
    assert cycles(cost, "recurrent_kernel") == batch * 4 * 100 * kept
    doubts = [doubt for doubt in cost.unproven if "activity" in doubt]
    assert doubts == [] if text is None else text in doubts[0]


def test_a_network_that_zeroes_no_state_skips_nothing() -> None:
    cost = chip(network(100), TaskShape(20, 3), activity=HALF)
    assert cycles(cost, "recurrent_kernel") == ceil(8 * 4 * 100 * 100 / 192)
    assert not {"encoder", "offsets"} & set(cost.breakdown["energy_j"])
    assert "encoder" not in cost.breakdown["area_mm2"] and not any("activity" in text for text in cost.unproven)


@pytest.mark.parametrize("part", ["asic65", "xc7vx690t"])
def test_batches_and_bandwidths_in_one_call_equal_calls_one_by_one(part: str) -> None:
    net, shape = network(48, 0.1, layers=2), TaskShape(10, 7)
    rng = np.random.default_rng(1)
    layers = tuple({batch: {1: tuple(rng.dirichlet(np.ones(49)))} for batch in (1, 8)} for _ in range(2))
    batches, bandwidths, sizes = [1, 3, 8, 16, 200], [0.0, 1e9, 51.2e9, 5e9, 0.0], [192, 5, 48, 7, 64]
    on = Accelerator(kind="sparse_state", technology=part)
    many = estimate(net, on, shape, layers, Settings.of(sizes, 1e8, batches, bandwidths))
    for i, (n_pe, batch, bandwidth) in enumerate(zip(sizes, batches, bandwidths, strict=True)):
        one = estimate(net, on, shape, layers, Settings.of(n_pe, 1e8, batch, bandwidth))
        assert one.row() == many.row(i) and one.infeasible[0] == many.infeasible[i]
        for name, parts in many.breakdown.items():
            assert {key: value[i] for key, value in parts.items()} == {k: v[0] for k, v in one.breakdown[name].items()}


@pytest.mark.parametrize("bandwidth", [0.0, 51.2e9])
def test_more_units_never_take_longer_and_never_work_faster_than_they_can(bandwidth: float) -> None:
    sizes = np.arange(1, 400)
    on = Accelerator(kind="sparse_state", technology="asic65")
    net = network(48, 0.1)
    cost = estimate(net, on, TaskShape(10, 7), always(20, 48), Settings.of(sizes, 2e8, 8, bandwidth))
    assert (np.diff(cost.cycles) <= 1e-9 * cost.cycles[1:]).all()
    assert (cost.cycles * sizes >= 8 * (4 * 48 * (10 + 20) + 48 * 7)).all()


def test_energy_of_a_stream_by_hand() -> None:
    """65 nm; 8 streams share the weights; 24 rows side by side, so four gates of 64 rows are eleven groups."""
    net, settings = network(64, 0.1), Settings.of(192, 2e8, 8, BANDWIDTH)
    part, operations = energy_pj(chip(net, TaskShape(20, 3), activity=always(30, 64))), technology("asic65").operations
    # 8 bits by 8 bits, sums of 84 products
    mac = 1e12 * (operations.multiply_j(8, 8) + operations.add_j(8 + 8 + 7))
    assert part["input_kernel_macs"] == pytest.approx(4 * 64 * 20 * mac)
    assert part["recurrent_kernel_macs"] == pytest.approx(4 * 64 * 30 * mac)
    assert part["recurrent_kernel_dram"] == pytest.approx(4 * 64 * 30 * 8 * 1e12 * DRAM_J.value / 8)
    memories = sparse_state._memories(workload(net, TaskShape(20, 3)), settings, np.array([192.0]))
    read = {name: 1e12 * operations.read_j(memory)[0] for name, memory in memories.items()}
    assert (memories["activations"].width[0], memories["activations"].depth[0]) == (8 * 8, 20 + 2 * 64)
    assert part["recurrent_kernel_activations"] == pytest.approx(30 * 11 * 8 * read["activations"])
    assert (memories["offsets"].width[0], memories["offsets"].depth[0]) == (6, 64)
    assert part["offsets"] == pytest.approx(30 * (1 + 11) * 6 * read["offsets"] / 8)
    assert part["encoder"] == pytest.approx(64 * 1e12 * operations.add_j(8))
    assert memories["head"].width[0] == 24 * 8
    assert part["head_weights"] == pytest.approx(3 * 64 * 8 * read["head"] / 8)


def test_weights_on_the_chip_are_read_once_for_all_streams() -> None:
    net = network(64, 0.1)
    part = energy_pj(chip(net, TaskShape(20, 3), activity=always(30, 64), dram_bits_per_s=0.0))
    memories = sparse_state._memories(workload(net, TaskShape(20, 3)), Settings.of(192, 2e8, 8), np.array([192.0]))
    read = 1e12 * technology("asic65").operations.read_j(memories["recurrent_kernel"])[0]
    assert part["recurrent_kernel_weights"] == pytest.approx(4 * 64 * 30 * 8 * read / 8)


def test_kernels_on_the_chip_have_memories_and_are_never_waited_for() -> None:
    on, off = (chip(network(60), TaskShape(20, 3), dram_bits_per_s=b) for b in (0.0, 1e8))
    assert cycles(on, "dram_wait") == 0 < cycles(off, "dram_wait")
    memories = sparse_state._memories(
        workload(network(60), TaskShape(20, 3)), Settings.of(192, 2e8, 8), np.array([192.0])
    )
    assert memories["recurrent_kernel"].width[0] == 24 * 8
    assert memories["recurrent_kernel"].bits[0] == 4 * 60 * 60 * 8
    for name in ("input_kernel_memory", "recurrent_kernel_memory"):
        assert on.breakdown["area_mm2"][name][0] > 0 == off.breakdown["area_mm2"][name][0]


def test_memories_of_uneven_sizes_and_of_tokens() -> None:
    net = network(9, 0.1)
    settings, n_pe = Settings.of(7, 2e8, 2), np.array([7.0])
    vectors, tokens = (
        sparse_state._memories(workload(net, TaskShape(5, 3, tokens=tokens)), settings, n_pe)
        for tokens in (False, True)
    )
    # 7 units and 2 streams: 4 rows; 4 * 9 * 5 and 4 * 9 * 9 words; a token is no vector to hold
    assert (vectors["input_kernel"].depth[0], vectors["recurrent_kernel"].depth[0]) == (45, 81)
    assert sparse_state._memories(workload(net, TaskShape(5, 3)), settings, n_pe + 1)["input_kernel"].depth[0] == 45
    assert sparse_state._memories(workload(net, TaskShape(5, 3)), settings, n_pe + 8)["input_kernel"].depth[0] == 23
    assert (vectors["activations"].depth[0], tokens["activations"].depth[0]) == (5 + 2 * 9, 2 * 9)
    assert (vectors["activations"].width[0], vectors["offsets"].width[0]) == (2 * 8, 4)


@pytest.mark.parametrize("part", ["asic65", "xc7vx690t"])
def test_a_unit_multiplies_the_longest_words(part: str) -> None:
    nets = [network(60, head_weights=Fixed(bits=bits)) for bits in (4, 8, 12)]
    costs = [chip(net, TaskShape(20, 3), technology=part) for net in nets]
    if part == "asic65":
        lanes = [cost.breakdown["area_mm2"]["lanes"][0] for cost in costs]
        table = technology(part).operations
        assert lanes[0] == lanes[1] < lanes[2]
        assert lanes[2] == pytest.approx(192 * (table.multiply_mm2(12, 8) + table.add_mm2(12 + 8 + 6)))
    else:
        # 60 columns of the head and 80 of the kernels: sums of 26 bits at most, 24 rows of 12-bit words
        assert costs[2].breakdown["ff"]["lanes"][0] == round(192 * 26 - 0.11 * 24 * 12)
        assert costs[2].breakdown["ff"]["register"][0] == round(1.92 * 8)


def test_the_encoder_has_a_comparator_for_each_stream() -> None:
    one, eight = (chip(network(60, 0.1), TaskShape(20, 3), batch).breakdown["area_mm2"] for batch in (1, 8))
    adder = technology("asic65").operations.add_mm2(8)
    assert (one["encoder"][0], eight["encoder"][0]) == pytest.approx((adder, 8 * adder))
    assert one["offsets_memory"][0] == eight["offsets_memory"][0] > 0


def test_the_share_of_the_bandwidth_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cycles(chip(network(300), TaskShape(300, 10), 1), *KERNELS)
    whole = replace(sparse_state.WEIGHT_SHARE, value=1.0)
    monkeypatch.setattr(sparse_state, "WEIGHT_SHARE", whole)
    assert cycles(chip(network(300), TaskShape(300, 10), 1), *KERNELS) == pytest.approx(0.75 * before)


def test_the_pipeline_fill_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    before = chip(network(60), TaskShape(20, 3)).cycles[0]
    monkeypatch.setattr(sparse_state, "FILL", sparse_state.FILL + 1)
    assert chip(network(60), TaskShape(20, 3)).cycles[0] == before + 2


@pytest.mark.parametrize(
    ("net", "bit"),
    [
        (network(48, recurrent_kernel=Kernel(structure=BlockCirculant(block_size=8))), Infeasible.STRUCTURE),
        (network(48, input_kernel=Kernel(weights=Ternary())), Infeasible.WEIGHT_FORMAT),
        (network(48, projection=16), Infeasible.CELL),
        (network(48, peephole=True), Infeasible.CELL),
        (network(48, batch_norm=Frozen()), Infeasible.CELL),
    ],
)
def test_what_the_array_cannot_run(net: Network, bit: Infeasible) -> None:
    cost = chip(net, TaskShape(20, 3))
    assert Infeasible(int(cost.infeasible[0])) == bit
    assert len(cost.reasons()) == 1 and "sparse_state" in cost.reasons()[0]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"layers": 2}, "further ones are counted one after another"),
        ({"cell": "gru"}, "the GRU follows"),
        ({"head_weights": Fixed(bits=6)}, "words have 8 bits"),
        ({"activations": Fixed(bits=9)}, "words have 8 bits"),
    ],
)
def test_what_the_paper_did_not_run_is_unproven(fields: dict[str, Any], text: str) -> None:
    plain, other = (chip(network(60, **given), TaskShape(20, 3)).unproven for given in ({}, fields))
    assert set(other) > set(plain) and text in " ".join(set(other) - set(plain))
    assert len(plain) == 3


def test_one_of_many_settings_outside_the_chip_is_enough_for_a_doubt() -> None:
    on = Accelerator(kind="sparse_state", technology="asic65")
    for bandwidths, doubted in (([0.0, 1e9], True), ([0.0, 0.0], False)):
        settings = Settings.of(8, 1e8, 1, bandwidths)
        unproven = estimate(network(60), on, TaskShape(20, 3), settings=settings).unproven
        assert any("bandwidth" in text for text in unproven) == doubted


def test_recalled_area_and_power_are_only_of_the_right_order() -> None:
    """M, plausibility: 1.1 mm2 and 83 mW without the memory outside; no clock, wires or registers are modelled."""
    cost = chip(network(1000), CHARACTERS)
    outside = [part for name, part in cost.breakdown["energy_j"].items() if name.endswith("_dram")]
    assert 0.3 < cost.area_mm2[0] / 1.1 < 3
    assert 0.2 < ((cost.energy_j - sum(outside)) * cost.throughput)[0] / 83e-3 < 1
